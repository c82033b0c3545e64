"""What happens to one instance: understood, checked, made durable, recorded. No network here."""

import hashlib
import threading
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import structlog
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from node.archive.facade import Archive
from node.dicom.pixels import stored_frames
from node.dicom.read import parse, read_instance
from node.dicom.uid import is_uid
from node.dimse.status import StoreStatus as Status
from node.errors import NodeError, StorageFullError
from node.telemetry.log import place_of
from node.tracker import arrivals
from node.tracker.handle import Tracker

log = structlog.get_logger()

IDENTIFYING_TAGS = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "ImagesInAcquisition"]
"""What is read of a data set here; the rest must only be such that it can be parsed, so that matching can read it."""


@dataclass(frozen=True)
class Sent:
    """A C-STORE request: what the peer said of the instance, and the data set exactly as it came."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str
    implementation_class_uid: str
    calling_ae_title: str
    data_set: bytes


class Store:
    """Puts instances away. One object serves all associations."""

    def __init__(self, archive: Archive, tracker: Tracker, series_quiet_s: float) -> None:
        self._archive = archive
        self._tracker = tracker
        self._quiet_s = series_quiet_s
        self._locks = [threading.Lock() for _ in range(64)]

    def put(self, sent: Sent) -> Status:
        """Keep one instance; the status is what the peer is told. SUCCESS only when it would survive a loss of power
        and be found again: the file is fsynced, and the row that names it committed."""
        logger = log.bind(sop_instance=sent.sop_uid if is_uid(sent.sop_uid) else "?", source=sent.calling_ae_title)
        part10 = _part10(sent)
        try:
            header = parse(BytesIO(part10), stop_before_pixels=True)
            uids = [str(header.get(k, "")) for k in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")]
            sop_class_uid = str(header.get("SOPClassUID", ""))
            expected = _positive(header.get("ImagesInAcquisition"))
        except Exception as error:  # pydicom raises nearly anything on a damaged data set
            logger.warning("receive.refused", reason="data set cannot be read", error=type(error).__name__)
            return Status.CANNOT_UNDERSTAND
        sop_uid, series_uid, study_uid = uids
        if not all(is_uid(value) for value in uids):
            logger.warning("receive.refused", reason="SOP, series or study instance UID missing or malformed")
            return Status.CANNOT_UNDERSTAND
        if (sop_uid, sop_class_uid) != (sent.sop_uid, sent.sop_class_uid):
            logger.warning("receive.refused", reason="UIDs of the data set differ from those of the C-STORE request")
            return Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS
        # Two associations may bring the same instance at the same moment; the second then finds the first.
        with self._locks[hash(sop_uid) % len(self._locks)]:
            try:
                return self._keep(sent, part10, study_uid, series_uid, expected)
            except StorageFullError as error:
                logger.error("receive.disk_full", reason=str(error))
                return Status.OUT_OF_RESOURCES
            except NodeError as error:
                logger.error("receive.failed", reason=str(error))
                return Status.OUT_OF_RESOURCES
            except Exception as error:  # a mistake of ours: the sender keeps its instance and may try again
                logger.error("receive.crashed", error=type(error).__name__, where=place_of(error))
                return Status.OUT_OF_RESOURCES

    def _keep(self, sent: Sent, part10: bytes, study_uid: str, series_uid: str, expected: int | None) -> Status:
        sha256 = hashlib.sha256(sent.data_set).hexdigest()
        known = arrivals.find_instance(self._tracker, sent.sop_uid)
        if known is not None:
            if known.sha256 == sha256 or _same_content(Path(known.path), part10):
                return Status.SUCCESS
            log.error(
                "receive.refused",
                sop_instance=sent.sop_uid,
                source=sent.calling_ae_title,
                reason="this SOP instance UID was received before with other content; the first is kept",
            )
            return Status.DUPLICATE_SOP_INSTANCE
        path = self._archive.put_instance(study_uid, series_uid, sent.sop_uid, part10)
        arrivals.record(
            self._tracker,
            arrivals.Arrival(
                sop_uid=sent.sop_uid,
                series_uid=series_uid,
                study_uid=study_uid,
                sop_class_uid=sent.sop_class_uid,
                transfer_syntax_uid=sent.transfer_syntax_uid,
                path=str(path),
                sha256=sha256,
                size=len(part10),
                source=sent.calling_ae_title,
                expected=expected,
            ),
            self._quiet_s,
        )
        return Status.SUCCESS


def _part10(sent: Sent) -> bytes:
    """The data set as received, with a preamble and file meta information before it (PS3.10 section 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sent.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sent.sop_uid)
    meta.TransferSyntaxUID = UID(sent.transfer_syntax_uid)
    meta.ImplementationClassUID = UID(sent.implementation_class_uid)
    meta.SourceApplicationEntityTitle = sent.calling_ae_title
    buffer = DicomBytesIO()
    buffer.write(b"\x00" * 128 + b"DICM")
    write_file_meta_info(buffer, meta, enforce_standard=True)
    buffer.write(sent.data_set)
    return buffer.getvalue()


def _same_content(path: Path, part10: bytes) -> bool:
    """Whether two files hold the same instance in different transfer syntaxes: the same pixels and public attributes.
    (Private ones come back as unknown bytes from implicit VR.) Only asked when their bytes differ."""
    try:
        ours, theirs = read_instance(path), parse(BytesIO(part10), stop_before_pixels=False)
        if _attributes(ours) != _attributes(theirs):
            return False
        frames = zip(stored_frames(ours), stored_frames(theirs), strict=True)
        return all(np.array_equal(one, other) for one, other in frames)
    except Exception:  # what cannot be decoded cannot be shown to be the same
        return False


def _attributes(data_set: Dataset) -> dict[str, str]:
    return {e.keyword: str(e.value) for e in data_set if not e.tag.is_private and e.keyword != "PixelData"}


def _positive(value: object) -> int | None:
    try:
        number = int(str(value))
    except ValueError:
        return None
    return number if 0 < number < 2**31 else None  # what an IS can say (PS3.5 section 6.2), and a column can hold
