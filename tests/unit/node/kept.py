"""Instances in archive and tracker, as the receiver leaves them."""

from pathlib import Path

from pydicom import Dataset

from node.archive.digest import Digest, data_set_starts, sha256
from node.archive.facade import Archive
from node.dicom.attributes import Attributes
from node.dicom.transfer_syntax import to_bytes
from node.tracker import arrivals
from node.tracker.arrivals import Arrival
from node.tracker.handle import Tracker
from node.tracker.instances import of_study


def as_received(ds: Dataset) -> tuple[bytes, Digest]:
    """The Part 10 file, and the digest of its data set."""
    content = to_bytes(ds)
    return content, Digest(sha256(content[data_set_starts(content) :]), str(ds.file_meta.TransferSyntaxUID))


def keep(tracker: Tracker, archive: Archive, ds: Dataset, quiet_s: float = 10, labelled: bool = True) -> None:
    content, digest = as_received(ds)
    names = str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID)
    study_uid, series_uid, sop_uid = names
    arrival = Arrival(
        sop_uid=sop_uid, series_uid=series_uid, study_uid=study_uid, sop_class_uid=str(ds.SOPClassUID),
        transfer_syntax_uid=digest.transfer_syntax_uid or "", key=archive.put_instance(*names, content, digest),
        sha256=digest.sha256 or "", size=len(content), source="MR1",
        expected=Attributes(ds).count("ImagesInAcquisition"),
        header=(lambda: ds) if labelled else None,
        purges=arrivals.look_up(tracker, study_uid, sop_uid).purges,
    )  # fmt: skip
    arrivals.record(tracker, arrival, quiet_s)


def path_of(tracker: Tracker, archive: Archive, ds: Dataset) -> Path:
    """Where the file of an instance is, of an archive in a folder."""
    stored = of_study(tracker, archive, str(ds.StudyInstanceUID))[str(ds.SOPInstanceUID)]
    return Path(archive.location(stored.key))


def spoil(path: Path) -> None:
    """Flip a bit near the end of a file."""
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
