"""The peers of a migrated node: a scanner, archives that take or refuse, one that commits. All of them pynetdicom, so
that the fixture and its test need nothing of the node's own code."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel as PushModel  # type: ignore[attr-defined]
from pynetdicom.sop_class import StorageCommitmentPushModelInstance as PushModelInstance  # type: ignore[attr-defined]
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

OUT_OF_RESOURCES = 0xA700
Item = tuple[str, str]
"""(SOP class UID, SOP instance UID)"""


@dataclass
class Archive:
    """A storage SCP, which also takes requests for storage commitment.

    It takes the first `takes` instances and answers "out of resources" to all others; None takes everything. It reports
    a commitment at once on the same association when `reports`, else never by itself.
    """

    ae_title: str
    port: int
    takes: int | None = None
    reports: bool = True
    received: dict[str, bytes] = field(default_factory=dict)
    """Data sets as they came, by SOP instance UID."""
    times: dict[str, int] = field(default_factory=dict)
    """How often each SOP instance UID was sent."""
    _server: Any = None

    def start(self) -> "Archive":
        ae = AE(self.ae_title)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax or "", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        ae.add_supported_context(PushModel)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._action)]
        self._server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()

    def _store(self, event: Any) -> int:
        sop_uid = str(event.request.AffectedSOPInstanceUID)
        if self.takes is not None and len(self.received) >= self.takes:
            return OUT_OF_RESOURCES
        self.received[sop_uid] = event.request.DataSet.getvalue()
        self.times[sop_uid] = self.times.get(sop_uid, 0) + 1
        return 0x0000

    def _action(self, event: Any) -> tuple[int, None]:
        if self.reports:
            threading.Timer(0.05, _report, (event.assoc, event.action_information)).start()
        return 0x0000, None

    def report(self, node_port: int, transaction_uid: str, items: Sequence[Item]) -> int:
        """Report to the node that `items` are committed, on an association of our own; the node's status."""
        ae = AE(self.ae_title)
        ae.add_requested_context(PushModel)
        association = ae.associate(
            "127.0.0.1", node_port, ae_title="DIFFMSR", ext_neg=[build_role(PushModel, scp_role=True)]
        )
        assert association.is_established, "the node did not grant an association for the report"
        try:
            return _report(association, _transaction(transaction_uid, items))
        finally:
            association.release()


@dataclass
class Scanner:
    """Sends instances, asks for storage commitment, and takes the reports on it."""

    port: int
    ae_title: str = "SCANNER"
    reports: list[Dataset] = field(default_factory=list)
    reported: threading.Event = field(default_factory=threading.Event)
    _server: Any = None

    def echo(self, node_port: int) -> bool:
        """Whether the node answers C-ECHO."""
        ae = AE(self.ae_title)
        ae.add_requested_context(Verification)
        association = ae.associate("127.0.0.1", node_port, ae_title="DIFFMSR")
        if not association.is_established:
            return False
        try:
            return "Status" in association.send_c_echo()
        finally:
            association.release()

    def send(self, node_port: int, paths: Iterable[Path]) -> list[int]:
        """C-STORE of each file as it is encoded; the statuses."""
        instances = [dcmread(path) for path in paths]
        ae = AE(self.ae_title)
        for sop_class, syntax in {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in instances}:
            ae.add_requested_context(sop_class, syntax)
        association = ae.associate("127.0.0.1", node_port, ae_title="DIFFMSR")
        assert association.is_established, "the node did not grant an association"
        try:
            return [association.send_c_store(ds).Status for ds in instances]
        finally:
            association.release()

    def ask_commitment(self, node_port: int, transaction_uid: str, items: Sequence[Item]) -> int:
        """N-ACTION, and leave; the node's status."""
        ae = AE(self.ae_title)
        ae.add_requested_context(PushModel)
        association = ae.associate("127.0.0.1", node_port, ae_title="DIFFMSR")
        assert association.is_established, "the node did not grant an association"
        try:
            answer, _ = association.send_n_action(_transaction(transaction_uid, items), 1, PushModel, PushModelInstance)
            return int(answer.Status)
        finally:
            association.release()

    def listen(self) -> "Scanner":
        ae = AE(self.ae_title)
        ae.add_supported_context(PushModel, scu_role=False, scp_role=True)
        handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self._take)]
        self._server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()

    def _take(self, event: Any) -> tuple[int, None]:
        self.reports.append(event.event_information)
        self.reported.set()
        return 0x0000, None


def _report(association: Any, transaction: Dataset) -> int:
    answer, _ = association.send_n_event_report(transaction, 1, PushModel, PushModelInstance)
    return int(answer.Status)


def _transaction(transaction_uid: str, items: Sequence[Item]) -> Dataset:
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = []
    for sop_class_uid, sop_uid in items:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_uid
        ds.ReferencedSOPSequence.append(item)
    return ds
