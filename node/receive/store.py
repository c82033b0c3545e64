"""What happens to one instance: understood, checked, made durable, recorded. No network here."""

import threading
from dataclasses import dataclass
from io import BytesIO

import structlog
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from node.archive.digest import Digest, sha256
from node.archive.facade import Archive, StoredInstance
from node.dicom.attributes import Attributes, Header
from node.dicom.read import parse
from node.dicom.uid import is_uid
from node.dimse.status import StoreStatus as Status
from node.errors import NodeError, StorageFullError
from node.receive.duplicates import same_content
from node.telemetry.log import place_of
from node.tracker import arrivals
from node.tracker.audit import Action, try_audit
from node.tracker.handle import Tracker
from node.tracker.instances import stored

log = structlog.get_logger()

IDENTIFYING_TAGS = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "ImagesInAcquisition"]
"""What is read of a data set here; the rest must only be such that it can be parsed, so that matching can read it."""


@dataclass(frozen=True)
class StoreRequest:
    """A C-STORE request: what the peer said of the instance, and the data set exactly as it came."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str
    implementation_class_uid: str
    calling_ae_title: str
    data_set: bytes
    abstract_syntax_uid: str
    """Of the presentation context it came on."""


class Store:
    """Puts instances away. One object serves all associations."""

    def __init__(
        self,
        archive: Archive,
        tracker: Tracker,
        series_quiet_s: float,
        index_patient: bool = True,
        max_matrix: int = 4096,
    ) -> None:
        """`max_matrix` is [match.stack]'s: larger images are not decoded to find out what they are."""
        self._archive = archive
        self._tracker = tracker
        self._quiet_s = series_quiet_s
        self._index_patient = index_patient
        self._max_matrix = max_matrix
        self._locks = [threading.Lock() for _ in range(64)]

    def put(self, sent: StoreRequest) -> Status:
        """Keep one instance; the status is what the peer is told. SUCCESS only when it would survive a loss of power
        and be found again: the file is fsynced, and the row that names it committed."""
        if not is_uid(sent.sop_uid):
            return self._refuse(
                sent, Status.INVALID_SOP_INSTANCE, "the affected SOP instance UID is empty or malformed"
            )
        if sent.sop_class_uid != sent.abstract_syntax_uid:
            reason = "the affected SOP class is not that of the presentation context"
            return self._refuse(sent, Status.SOP_CLASS_NOT_SUPPORTED, reason)
        part10 = _part10(sent)
        try:
            header = parse(BytesIO(part10), stop_before_pixels=True)
            uids = [str(header.get(k, "")) for k in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")]
            sop_class_uid = str(header.get("SOPClassUID", ""))
        except Exception as error:  # pydicom raises nearly anything on a damaged data set
            return self._refuse(sent, Status.CANNOT_UNDERSTAND, "data set cannot be read", type(error).__name__)
        sop_uid, series_uid, study_uid = uids
        if not all(is_uid(value) for value in uids):
            reason = "SOP, series or study instance UID missing or malformed"
            return self._refuse(sent, Status.CANNOT_UNDERSTAND, reason)
        if (sop_uid, sop_class_uid) != (sent.sop_uid, sent.sop_class_uid):
            reason = "UIDs of the data set differ from those of the C-STORE request"
            return self._refuse(sent, Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, reason)
        # Two associations may bring the same instance at the same moment; the second then finds the first.
        with self._locks[hash(sop_uid) % len(self._locks)]:
            try:
                return self._keep(sent, part10, header, study_uid, series_uid)
            except StorageFullError as error:
                log.error("receive.disk_full", source=sent.calling_ae_title, reason=str(error))
                return Status.OUT_OF_RESOURCES
            except NodeError as error:
                log.error("receive.failed", source=sent.calling_ae_title, reason=str(error))
                return Status.OUT_OF_RESOURCES
            except Exception as error:  # a mistake of ours: the sender keeps its instance and may try again
                log.error(
                    "receive.crashed", source=sent.calling_ae_title, error=type(error).__name__, where=place_of(error)
                )
                return Status.OUT_OF_RESOURCES

    def _keep(self, sent: StoreRequest, part10: bytes, header: Header, study_uid: str, series_uid: str) -> Status:
        digest = Digest(sha256(sent.data_set), sent.transfer_syntax_uid)
        known = arrivals.look_up(self._tracker, study_uid, sent.sop_uid)
        lost = False
        if known.instance is not None:
            kept = stored(known.instance, self._archive)
            lost = not kept.is_intact()
            if not lost and (kept.digest.sha256 == digest.sha256 or self._is_same(kept, part10)):
                return Status.SUCCESS
            if not lost:
                reason = "this SOP instance UID was received before with other content; the first is kept"
                return self._refuse(sent, Status.DUPLICATE_SOP_INSTANCE, reason, study_uid=study_uid)
        arrival = arrivals.Arrival(
            sop_uid=sent.sop_uid,
            series_uid=series_uid,
            study_uid=study_uid,
            sop_class_uid=sent.sop_class_uid,
            transfer_syntax_uid=sent.transfer_syntax_uid,
            key=self._archive.put_instance(study_uid, series_uid, sent.sop_uid, part10, digest),
            sha256=digest.sha256 or "",
            size=len(part10),
            source=sent.calling_ae_title,
            expected=Attributes(header).count("ImagesInAcquisition"),
            header=header if self._index_patient else None,
            purges=known.purges,
        )
        if lost:
            log.warning("receive.repaired", sop_instance=sent.sop_uid, study=study_uid, source=sent.calling_ae_title)
            arrivals.repair(self._tracker, arrival, self._quiet_s)
        elif not arrivals.record(self._tracker, arrival, self._quiet_s):
            return self._keep(sent, part10, header, study_uid, series_uid)  # another host was first: compare with its
        return Status.SUCCESS

    def _is_same(self, kept: StoredInstance, part10: bytes) -> bool:
        """Whether both hold the same instance in different transfer syntaxes. Only asked when the bytes differ."""
        try:
            ours, theirs = kept.read_instance(), parse(BytesIO(part10), stop_before_pixels=False)
        except Exception:  # pydicom raises nearly anything on a damaged data set
            return False
        return same_content(ours, theirs, self._max_matrix)

    def _refuse(
        self, sent: StoreRequest, status: Status, reason: str, error: str | None = None, study_uid: str | None = None
    ) -> Status:
        """Say in the log and the audit trail that an instance was not taken; nothing of its content."""
        sop_uid = sent.sop_uid if is_uid(sent.sop_uid) else "?"
        facts = {"source": sent.calling_ae_title, "sop_instance": sop_uid} | ({"error": error} if error else {})
        log.warning("receive.refused", reason=reason, **facts)
        details = {"sop_instance": sop_uid, "status": f"0x{int(status):04X}", "reason": reason}
        try_audit(self._tracker, Action.REFUSED, sent.calling_ae_title, study_uid, details)
        return status

    def ended(self, peer: str, host: str | None, stored: int, refused: int) -> None:
        """An association that brought instances has ended."""
        details = {"host": host, "stored": stored, "refused": refused}
        try_audit(self._tracker, Action.ASSOCIATION, peer, details=details)

    def rejected(self, peer: str, host: str | None, reason: str) -> None:
        """An association was rejected, or this node ended it."""
        try_audit(self._tracker, Action.ASSOCIATION, peer, details={"host": host, "rejected": reason})


def _part10(sent: StoreRequest) -> bytes:
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
