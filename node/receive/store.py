"""What happens to one instance: understood, checked, made durable, recorded. No network here."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO

import structlog
from pydicom.uid import UID

from node.archive.digest import Digest, data_set_starts, sha256
from node.archive.facade import Archive
from node.archive.layout import instance_key
from node.dicom.attributes import Header
from node.dicom.part10 import head as part10_head
from node.dicom.part10 import without_meta
from node.dicom.read import parse
from node.dicom.uid import is_uid
from node.dimse.status import StoreStatus as Status
from node.errors import NodeError, StorageFullError
from node.receive.contexts import MR
from node.receive.duplicates import differing, is_correction, names
from node.receive.group_commit import GroupCommit
from node.receive.scan import Scanned, read, scan
from node.receive.sparing import SparingAudit
from node.telemetry.log import place_of
from node.telemetry.tracing import span
from node.tracker import arrivals, associations, corrections
from node.tracker.arrivals import Arrival
from node.tracker.audit import Action, try_audit
from node.tracker.database import PATIENCE_S
from node.tracker.handle import Tracker
from node.tracker.instances import intact_by_series, stored, was_replaced

log = structlog.get_logger()


@dataclass(frozen=True)
class StoreRequest:
    """A C-STORE request: what the peer said of the instance, and the data set exactly as it came."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str
    implementation_class_uid: str
    calling_ae_title: str
    data_set: bytes | memoryview
    """Only good until the next message of its association."""
    abstract_syntax_uid: str
    """Of the presentation context it came on."""


@dataclass
class _Brought:
    """What an association has brought of a study."""

    since_ns: int
    instances: int = 0


class Store:
    """Puts instances away. One object serves all associations."""

    def __init__(
        self,
        archive: Archive,
        tracker: Tracker,
        series_quiet_s: float,
        index_patient: bool = True,
        max_matrix: int = 4096,
        group_commit: GroupCommit | None = None,
        keep_other: bool = False,
    ) -> None:
        """`max_matrix` is [match.stack]'s: larger images are not decoded to find out what they are. Without a
        `group_commit` each instance is kept for itself. Only with `keep_other` instances that are not MR are kept."""
        self._archive = archive
        self._tracker = tracker
        self._quiet_s = series_quiet_s
        self._index_patient = index_patient
        self._max_matrix = max_matrix
        self._group_commit = group_commit
        self._patient = replace(tracker, patience_s=PATIENCE_S)  # for what no peer waits for
        self._audit = SparingAudit(self._patient)
        self._keep_other = keep_other
        self._open: dict[str, dict[str, _Brought]] = {}
        """What each open association has brought, by study."""
        self._locks = [threading.Lock() for _ in range(1024)]
        """Two associations may bring the same instance at the same moment; the second then finds the first."""

    def put(self, sent: StoreRequest, association: str | None = None) -> Status:
        """Keep one instance; the status is what the peer is told. `association` is a UUID of the association that a peer opened
        and brings it on. SUCCESS only when it would survive a loss of power
        and be found again: its bytes are durable, and the row that names them is entered; or when its SOP class is one that
        the configuration has us drop."""
        if not is_uid(sent.sop_uid):
            reason = "the affected SOP instance UID is empty or malformed"
            return self._refuse(sent, Status.INVALID_SOP_INSTANCE, reason)
        if sent.sop_class_uid != sent.abstract_syntax_uid:
            reason = "the affected SOP class is not that of the presentation context"
            return self._refuse(sent, Status.SOP_CLASS_NOT_SUPPORTED, reason)
        if self.drops(sent.sop_class_uid):
            log.debug("receive.dropped", source=sent.calling_ae_title, sop_class=UID(sent.sop_class_uid).name)
            return Status.SUCCESS
        data_set = without_meta(sent.data_set, sent.transfer_syntax_uid)
        if len(data_set) != len(sent.data_set):
            sent = replace(sent, data_set=data_set)
        head = part10_head(
            sent.sop_class_uid,
            sent.sop_uid,
            sent.transfer_syntax_uid,
            sent.implementation_class_uid,
            sent.calling_ae_title,
        )
        try:
            said = scan(sent.data_set, sent.transfer_syntax_uid) or read(_header(head, sent.data_set))
        except Exception as error:  # pydicom raises nearly anything on a damaged data set
            return self._refuse(sent, Status.CANNOT_UNDERSTAND, "data set cannot be read", type(error).__name__)
        if not all(is_uid(value) for value in (said.sop_uid, said.series_uid, said.study_uid)):
            reason = "SOP, series or study instance UID missing or malformed"
            return self._refuse(sent, Status.CANNOT_UNDERSTAND, reason)
        if (said.sop_uid, said.sop_class_uid) != (sent.sop_uid, sent.sop_class_uid):
            reason = "UIDs of the data set differ from those of the C-STORE request"
            return self._refuse(sent, Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, reason)
        try:
            self._expect_more(association, said.study_uid)
            status = self._keep(sent, head, said)
            if association is not None and status is Status.SUCCESS:
                self._open[association][said.study_uid].instances += 1
            return status
        except StorageFullError as error:
            log.error("receive.disk_full", source=sent.calling_ae_title, reason=str(error))
        except NodeError as error:
            log.error("receive.failed", source=sent.calling_ae_title, reason=str(error))
        except Exception as error:  # a mistake of ours: the sender keeps its instance and may try again
            source = sent.calling_ae_title
            log.error("receive.crashed", source=source, error=type(error).__name__, where=place_of(error))
        return Status.OUT_OF_RESOURCES

    def drops(self, sop_class_uid: str) -> bool:
        """Whether instances of that SOP class are answered with success and not kept."""
        return not self._keep_other and sop_class_uid not in MR

    def readmit(self, content: bytes, digest: str) -> str | None:
        """Keep an instance that was found in the log of a process that died, and enter it where that is missing. What went
        wrong, in words, else None."""
        try:
            meta = parse(BytesIO(content), stop_before_pixels=True).file_meta
            starts = data_set_starts(content)
            head, data_set = content[:starts], memoryview(content)[starts:]
            said = scan(data_set, str(meta.TransferSyntaxUID)) or read(_header(head, data_set))
            sent = StoreRequest(
                sop_class_uid=said.sop_class_uid,
                sop_uid=said.sop_uid,
                transfer_syntax_uid=str(meta.TransferSyntaxUID),
                implementation_class_uid="",
                calling_ae_title=str(meta.get("SourceApplicationEntityTitle", "")),
                data_set=data_set,
                abstract_syntax_uid=said.sop_class_uid,
            )
        except Exception as error:  # it was read before it was kept, so this is a mistake of ours
            return f"it cannot be read: {type(error).__name__}"
        with self._lock(said.sop_uid):
            self.flush()
            known = arrivals.look_up(self._tracker, said.study_uid, said.sop_uid)
            if known.instance is not None and known.instance.sha256 != digest:
                return None  # another content of the same instance was entered, and this one never acknowledged
            if known.instance is None and was_replaced(self._tracker, said.study_uid, said.sop_uid, digest):
                return None  # its series was dropped since
            held = Digest(digest, sent.transfer_syntax_uid)
            key = self._archive.put_instance(said.study_uid, said.series_uid, said.sop_uid, content, held)
            if known.instance is None:
                self._record(self._arrival(sent, head, said, key, digest, known.purges))
        return None

    def flush(self) -> None:
        """Return when everything that was acknowledged has its row in the tracker. NodeError when that cannot be done now."""
        if self._group_commit is not None:
            self._group_commit.flush()

    def _keep(self, sent: StoreRequest, head: bytes, said: Scanned) -> Status:
        digest = Digest(sha256(sent.data_set), sent.transfer_syntax_uid)
        group_commit = self._group_commit
        with self._lock(sent.sop_uid):
            if group_commit is not None and len(sent.data_set) <= group_commit.largest:
                key = instance_key(said.study_uid, said.series_uid, said.sop_uid)
                arrival = self._arrival(sent, head, said, key, digest.sha256 or "", None)
                try:
                    self._archive.check_space()
                    if group_commit.keep(head, sent.data_set, arrival):
                        return Status.SUCCESS
                except StorageFullError as error:  # what is here already needs no space
                    log.debug("receive.not_logged", reason=str(error))
            self.flush()
            return self._keep_alone(sent, head, said, digest)

    def _keep_alone(self, sent: StoreRequest, head: bytes, said: Scanned, digest: Digest) -> Status:
        """Keep one instance for itself: it may be known, or too large for the log."""
        known = arrivals.look_up(self._tracker, said.study_uid, sent.sop_uid)
        lost = False
        if known.instance is not None:
            kept = stored(known.instance, self._archive)
            lost = not kept.is_intact()
            if not lost:
                same = kept.digest.sha256 == digest.sha256
                return Status.SUCCESS if same else self._keep_again(sent, head, said, known, digest)
        part10 = head + sent.data_set
        key = self._archive.put_instance(said.study_uid, said.series_uid, sent.sop_uid, part10, digest)
        arrival = self._arrival(sent, head, said, key, digest.sha256 or "", known.purges)
        if lost:
            facts = {"sop_instance": sent.sop_uid, "study": said.study_uid, "source": sent.calling_ae_title}
            log.warning("receive.repaired", **facts)
            arrivals.repair(self._tracker, arrival, self._quiet_s)
        elif not self._record(arrival):
            return self._keep_alone(sent, head, said, digest)  # another host was first: compare with its
        return Status.SUCCESS

    def _lock(self, sop_uid: str) -> threading.Lock:
        return self._locks[hash(sop_uid) % len(self._locks)]

    def _record(self, arrival: Arrival) -> bool:
        """Enter an instance that has a file. False when it was there already."""
        is_new = arrivals.record(self._tracker, arrival, self._quiet_s)
        if is_new and self._group_commit is not None:
            self._group_commit.entered(arrival.study_uid, arrival.series_uid, arrival.sop_uid)
        return is_new

    def _arrival(
        self, sent: StoreRequest, head: bytes, said: Scanned, key: str, digest: str, purges: int | None
    ) -> Arrival:
        return Arrival(
            sop_uid=sent.sop_uid,
            series_uid=said.series_uid,
            study_uid=said.study_uid,
            sop_class_uid=sent.sop_class_uid,
            transfer_syntax_uid=sent.transfer_syntax_uid,
            key=key,
            sha256=digest,
            size=len(head) + len(sent.data_set),
            source=sent.calling_ae_title,
            expected=said.images_in_acquisition,
            header=partial(_header, head, sent.data_set) if self._index_patient else None,
            purges=purges,
        )

    def _keep_again(
        self, sent: StoreRequest, head: bytes, said: Scanned, known: arrivals.KnownInstance, digest: Digest
    ) -> Status:
        """What came again with other bytes: the same content, a correction of patient or study, or something else."""
        assert known.instance is not None
        version, series_uid = known.instance.version, known.instance.series_uid
        part10 = head + sent.data_set
        try:
            came = parse(BytesIO(part10), stop_before_pixels=False)
            kept = stored(known.instance, self._archive).read_instance()
            differences = differing(kept, came, self._max_matrix)
        except Exception:  # pydicom raises nearly anything on a damaged data set
            differences = None
        if differences == []:
            return Status.SUCCESS
        if differences is not None and is_correction(differences):
            key = self._archive.put_instance(said.study_uid, said.series_uid, sent.sop_uid, part10, digest)
            arrival = self._arrival(sent, head, said, key, digest.sha256 or "", known.purges)
            changed = names(differences)
            if corrections.correct(self._tracker, arrival, changed, self._quiet_s, version):
                facts = {"sop_instance": sent.sop_uid, "source": sent.calling_ae_title, "attributes": changed}
                log.info("receive.corrected", **facts)
                return Status.SUCCESS
            return self._keep_alone(sent, head, said, digest)  # another association was first: compare with its
        what = "other pixels" if differences is None else f"another {', '.join(names(differences[:3]))}"
        reason = f"this SOP instance UID was received before with {what}; the first is kept"
        corrections.note_conflict(self._tracker, said.study_uid, series_uid)
        return self._refuse(sent, Status.DUPLICATE_SOP_INSTANCE, reason, study_uid=said.study_uid)

    def _refuse(
        self, sent: StoreRequest, status: Status, reason: str, error: str | None = None, study_uid: str | None = None
    ) -> Status:
        """Say in the log and the audit trail that an instance was not taken; nothing of its content."""
        sop_uid = sent.sop_uid if is_uid(sent.sop_uid) else "?"
        facts = {"source": sent.calling_ae_title, "sop_instance": sop_uid} | ({"error": error} if error else {})
        log.warning("receive.refused", reason=reason, **facts)
        details = {"sop_instance": sop_uid, "status": f"0x{int(status):04X}", "reason": reason}
        self._audit.add(Action.REFUSED, sent.calling_ae_title, sent.calling_ae_title, study_uid, details)
        return status

    def _expect_more(self, association: str | None, study_uid: str) -> None:
        """As long as the association is open, more of the study may come."""
        if association is not None and study_uid not in self._open.setdefault(association, {}):
            associations.opened(self._tracker, association, study_uid)
            self._open[association][study_uid] = _Brought(time.time_ns())

    def intact(self, study_uid: str) -> Counter[str]:
        """How many instances of each series of a study are there and match their digests. It reads all of them."""
        self.flush()
        return intact_by_series(self._tracker, self._archive, study_uid)

    def full(self) -> str | None:
        """Why no instance can be kept at the moment; None when there is room."""
        try:
            self._archive.check_space()
        except StorageFullError as error:
            return str(error)
        return None

    def ended(
        self,
        peer: str,
        called: str,
        host: str | None,
        stored: int,
        refused: int,
        dropped: int = 0,
        association: str | None = None,
    ) -> None:
        """An association that brought instances has ended: so many were kept, refused, and dropped as not MR. The log has a
        line for each study."""
        if dropped:
            log.info("receive.others_dropped", source=peer, instances=dropped)
        details = {"host": host, "stored": stored, "refused": refused, "dropped": dropped}
        if association is not None and association in self._open:
            for study_uid, brought in self._open.pop(association).items():
                facts: dict[str, str | int] = {"instances": brought.instances, "source": peer, "called": called}
                with span("receive", study_uid, brought.since_ns, **facts):
                    log.info("study.received", study=study_uid, **facts)
            try:
                self.flush()
                associations.closed(self._patient, association, peer, details if stored or dropped else None)
                if stored or dropped:
                    return
            except NodeError as error:  # its studies wait for [completion] association_quiet_s, and no longer
                log.error("receive.association_not_closed", source=peer, reason=str(error))
        if stored or dropped:
            try_audit(self._patient, Action.ASSOCIATION, peer, details=details)
        else:
            self._audit.add(Action.ASSOCIATION, peer, host or peer, details=details)

    def rejected(self, peer: str, host: str | None, reason: str) -> None:
        """An association was rejected, or this node ended it."""
        self._audit.add(Action.ASSOCIATION, peer, host or peer, details={"host": host, "rejected": reason})

    def close(self) -> None:
        """No peer will call again."""
        self._audit.close()


def _header(head: bytes, data_set: bytes | memoryview) -> Header:
    """Whatever pydicom raises on a damaged data set."""
    return parse(BytesIO(head + data_set), stop_before_pixels=True)
