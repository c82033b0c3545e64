"""A delivery to a destination that commits: done when it has said so, whatever way and however late it says it."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
)

from node.archive.facade import Archive
from node.config.settings import DestinationSettings, Settings
from node.deliver import commitment_scu
from node.deliver.worker import make_deliver_handler
from node.dicom.transfer_syntax import to_bytes
from node.payloads import PairRequest, StackRequest
from node.tracker import administration, commitments, queue, steps, views
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.states import Kind, State
from node.tracker.worker import Lease
from tests.dicom import mr_series


@dataclass
class PACS:
    """A storage and storage commitment SCP that does what `report` says with a request: it returns the event type and
    the instances that failed; None stays silent."""

    report: Callable[[list[str]], tuple[int, dict[str, int]] | None] = lambda uids: (1, {})
    action_status: int = 0x0000
    commits: bool = True
    aborts: bool = False
    finds: bool = False
    lost: set[str] = field(default_factory=set)
    """What a C-FIND does not list."""
    stored: list[str] = field(default_factory=list)
    transactions: list[str] = field(default_factory=list)
    port: int = 0

    def start(self) -> Any:
        ae = AE("PACS")
        ae.add_supported_context(MRImageStorage, ExplicitVRLittleEndian)
        if self.commits:
            ae.add_supported_context(StorageCommitmentPushModel)
        if self.finds:
            ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._action), (evt.EVT_C_FIND, self._find),
        ]  # fmt: skip
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = server.socket.getsockname()[1]
        return server

    def _store(self, event: Any) -> int:
        self.stored.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for uid in sorted({*self.stored} - self.lost):
            match = Dataset()
            match.QueryRetrieveLevel, match.SOPInstanceUID = "IMAGE", uid
            yield 0xFF00, match

    def _action(self, event: Any) -> tuple[int, None]:
        if self.aborts:
            event.assoc.abort()
            return 0x0000, None
        request = event.action_information
        self.transactions.append(request.TransactionUID)
        answer = self.report([item.ReferencedSOPInstanceUID for item in request.ReferencedSOPSequence])
        if self.action_status == 0x0000 and answer is not None:
            threading.Timer(0.05, self._send, (event.assoc, request, *answer)).start()
        return self.action_status, None

    @staticmethod
    def _send(association: Any, request: Dataset, event_type: int, failed: dict[str, int]) -> None:
        said = Dataset()
        said.TransactionUID = request.TransactionUID
        items = {item.ReferencedSOPInstanceUID: item for item in request.ReferencedSOPSequence}
        said.ReferencedSOPSequence = [item for uid, item in items.items() if uid not in failed]
        if failed:
            said.FailedSOPSequence = [items[uid] for uid in failed]
            for uid, reason in failed.items():
                items[uid].FailureReason = reason
        instance = StorageCommitmentPushModelInstance
        association.send_n_event_report(said, event_type, StorageCommitmentPushModel, instance)


class Delivery:
    """One delivery of three instances to the PACS, attempt by attempt."""

    def __init__(self, folder: Path, pacs: PACS, **destination: Any) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.database = Database(f"sqlite:///{folder / 'tracker.sqlite3'}")
        self.database.upgrade()
        self.tracker = Tracker(self.database, clock=lambda: self.now)
        peer = DestinationSettings(
            name="pacs",
            ae_title="PACS",
            host="127.0.0.1",
            port=pacs.port,
            timeout_s=300,
            commitment=True,
            **destination,
        )
        archive = Archive.in_folder(folder / "data")
        self.work = make_deliver_handler(self.tracker, archive, Settings(destinations=[peer]))
        instances = mr_series(3)
        self.uids = [str(ds.SOPInstanceUID) for ds in instances]
        archive.put_derived("infer:1", zip(self.uids, map(to_bytes, instances), strict=True), "page")
        stack = StackRequest(series_uid="1.2.1", contrast="T2", sop_uids=("1.2.1.1",))
        request = PairRequest(study_uid="1.2", target=stack, reference=stack)
        queue.enqueue(self.tracker, steps.deliver_job("infer:1", request, "pacs", 5), "test")

    def attempt(self, patience_s: float = 300) -> State:
        """`patience_s` is for a report on the same association; with one the attempt goes on at once."""
        claim = queue.claim(self.tracker, Kind.DELIVER, "host/deliver/1")
        assert claim is not None, "not due"
        patience = patch.object(commitment_scu, "SAME_ASSOCIATION_S", patience_s)
        with Lease(self.tracker, claim, threading.Event()) as lease, patience:
            return queue.settle(self.tracker, claim, self.work(lease))

    def due(self) -> bool:
        (job,) = views.jobs(self.database)
        return job.next_attempt_at is not None and job.next_attempt_at <= self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @property
    def error(self) -> str:
        (job,) = views.jobs(self.database)
        return job.error or views.job(self.database, job.id).events[-1].why


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Delivery]]:
    opened: list[Any] = []

    def make(pacs: PACS, **destination: Any) -> Delivery:
        opened.append(pacs.start())
        delivery = Delivery(tmp_path, pacs, **destination)
        opened.append(delivery)
        return delivery

    yield make
    for one in opened:
        one.database.dispose() if isinstance(one, Delivery) else one.shutdown()


Start = Callable[..., Delivery]


def test_a_report_on_the_same_association(start: Start) -> None:
    pacs = PACS()
    delivery = start(pacs)
    assert delivery.attempt() is State.DONE
    assert sorted(pacs.stored) == sorted(delivery.uids)
    assert len(pacs.transactions) == 1
    assert "has accepted and committed all 3 instances" in delivery.error


def test_what_was_not_committed_is_sent_again_later_and_asked_with_a_new_transaction(start: Start) -> None:
    pacs = PACS()
    delivery = start(pacs, initial_delay_s=10)
    lost = delivery.uids[1]
    pacs.report = lambda uids: (2, {lost: 0x0112}) if len(uids) == 3 else (1, {})
    assert delivery.attempt() is State.RETRY_WAIT
    assert "did not commit 1 of 3 instances: not committed: 0x0112 (no such object instance)" in delivery.error
    assert not delivery.due(), "not at once: a PACS that commits nothing must not be sent to without end"
    delivery.forward(15)
    assert delivery.attempt() is State.DONE
    assert pacs.stored[3:] == [lost], "the others are committed"
    assert len(set(pacs.transactions)) == 2


def test_silence_is_waited_for_without_a_worker_then_asked_anew(start: Start) -> None:
    pacs = PACS(report=lambda uids: None)
    delivery = start(pacs, commitment_timeout_s=600)
    assert delivery.attempt(patience_s=0.2) is State.COMMITTING
    assert queue.rescue(delivery.tracker, dead=lambda worker: True) == 0, "nobody holds it"
    delivery.forward(599)
    assert queue.claim(delivery.tracker, Kind.DELIVER, "w") is None
    delivery.forward(1)
    pacs.report = lambda uids: (1, {})
    assert delivery.attempt() is State.DONE
    assert len(set(pacs.transactions)) == 2
    assert len(pacs.stored) == 3


def test_silence_for_ever_fails_in_the_end(start: Start) -> None:
    pacs = PACS(report=lambda uids: None)
    delivery = start(pacs, commitment_timeout_s=600)
    for _ in range(5):
        assert delivery.attempt(patience_s=0.2) is State.COMMITTING
        delivery.forward(600)
    assert delivery.attempt(patience_s=0.2) is State.FAILED


def test_a_report_to_another_process_makes_the_delivery_due(start: Start) -> None:
    pacs = PACS(report=lambda uids: None)
    delivery = start(pacs)
    assert delivery.attempt(patience_s=0.2) is State.COMMITTING
    assert not commitments.reported(delivery.tracker, "1.2.3", set(delivery.uids), {}), "not a transaction of ours"
    assert not delivery.due()
    assert commitments.reported(delivery.tracker, pacs.transactions[0], set(delivery.uids), {})
    assert delivery.due()
    assert delivery.attempt() is State.DONE


def test_a_failure_reported_to_another_process_is_retried_after_a_while(start: Start) -> None:
    pacs = PACS(report=lambda uids: None)
    delivery = start(pacs)
    delivery.attempt(patience_s=0.2)
    first, *others = delivery.uids
    commitments.reported(delivery.tracker, pacs.transactions[0], set(others), {first: "0x0110 (processing failure)"})
    assert delivery.attempt() is State.RETRY_WAIT
    assert len(pacs.stored) == 3, "nothing was sent in that attempt"
    delivery.forward(900)
    pacs.report = lambda uids: (1, {})
    assert delivery.attempt() is State.DONE
    assert pacs.stored[3:] == [first]


@pytest.mark.parametrize("fallback", ["none", "find"])
def test_what_a_report_has_committed_is_not_asked_for_again(start: Start, fallback: str) -> None:
    pacs = PACS(report=lambda uids: None)
    delivery = start(pacs, commitment_fallback=fallback)
    assert delivery.attempt(patience_s=0) is State.COMMITTING
    (job,) = views.jobs(delivery.database)
    administration.hold(delivery.tracker, job.id, "admin")
    assert commitments.reported(delivery.tracker, pacs.transactions[0], delivery.uids, {})
    administration.release(delivery.tracker, job.id, "admin")
    assert delivery.attempt() is State.DONE
    assert len(pacs.transactions) == 1
    assert delivery.error == "pacs has accepted and committed all 3 instances"


def test_a_report_that_forgets_instances_is_not_taken_for_a_commitment(start: Start) -> None:
    pacs = PACS(report=lambda uids: None)
    delivery = start(pacs)
    delivery.attempt(patience_s=0.2)
    commitments.reported(delivery.tracker, pacs.transactions[0], {delivery.uids[0]}, {})
    assert delivery.attempt() is State.RETRY_WAIT
    assert "did not commit 2 of 3" in delivery.error


@pytest.mark.parametrize(
    ("pacs", "says"),
    [
        (PACS(commits=False), "the peer does not accept Storage Commitment Push Model SOP Class"),
        (PACS(action_status=0x0213), "storage commitment answered 0x0213 (resource limitation)"),
    ],
    ids=["no presentation context", "refused"],
)
def test_a_destination_that_does_not_take_the_request(start: Start, pacs: PACS, says: str) -> None:
    delivery = start(pacs)
    assert delivery.attempt() is State.RETRY_WAIT
    for part in ("destination pacs", f"PACS at 127.0.0.1:{pacs.port}", says, "check"):
        assert part in delivery.error
    assert len(pacs.stored) == 3


def test_a_find_instead_of_a_commitment(start: Start) -> None:
    pacs = PACS(commits=False, finds=True)
    delivery = start(pacs, commitment_fallback="find")
    pacs.lost = {delivery.uids[2]}
    assert delivery.attempt() is State.RETRY_WAIT
    assert "a C-FIND lists 2 of 3 accepted instances" in delivery.error
    delivery.forward(900)
    pacs.lost = set()
    assert delivery.attempt() is State.DONE
    assert pacs.stored[3:] == [delivery.uids[2]]
    assert "they are not committed" in delivery.error, "the record does not claim more than there is"


def test_a_find_after_silence(start: Start) -> None:
    pacs = PACS(report=lambda uids: None, finds=True)
    delivery = start(pacs, commitment_fallback="find", commitment_timeout_s=60)
    assert delivery.attempt(patience_s=0.2) is State.COMMITTING
    delivery.forward(60)
    assert delivery.attempt() is State.DONE
    assert "did not report on their storage commitment in time" in delivery.error


def test_a_pacs_that_aborts_in_the_middle(start: Start) -> None:
    pacs = PACS(aborts=True)
    delivery = start(pacs)
    assert delivery.attempt() is State.RETRY_WAIT
    assert "no answer to the request for storage commitment" in delivery.error
    assert "check" in delivery.error
