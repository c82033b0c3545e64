"""A scanner requests storage commitment, and waits for the report, leaves, or forgets to listen."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel as PushModel
from pynetdicom.sop_class import StorageCommitmentPushModelInstance as PushModelInstance

from node.archive.facade import Archive
from node.config.settings import SCPSettings, SourceSettings
from node.dimse.associations import keep_answers
from node.dimse.commitment_messages import ReferencedInstance
from node.dimse.commitment_messages import request as asking
from node.receive import commitment_scp
from node.receive.commitment_scp import Commitments
from node.receive.policy import configured_callers
from node.receive.server import Receiver
from node.receive.store import Store
from node.tracker import administration, queue, views
from node.tracker.handle import Tracker
from node.tracker.instances import of_study
from node.tracker.states import Kind, State
from node.tracker.worker import Lease
from tests.conftest import free_port
from tests.dicom import mr_series


class Scanner:
    """Sends instances, asks for their commitment, and takes reports on whatever association they come."""

    def __init__(self, receiver: Receiver) -> None:
        self.port = free_port()
        self.node_port = receiver.port
        self.reports: list[Dataset] = []
        self.reported = threading.Event()
        self.status = 0x0000
        self._handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self._take)]

    def _take(self, event: Any) -> tuple[int, None]:
        self.reports.append(event.event_information)
        self.event_type = event.event_type
        self.reported.set()
        return self.status, None

    def send(self, instances: list[Dataset]) -> None:
        ae = AE("MR1")
        ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", self.node_port)
        assert [association.send_c_store(ds).Status for ds in instances] == [0] * len(instances)
        association.release()

    def ask(self, *items: tuple[str, str], transaction: str | None = None, **changes: Any) -> tuple[int, Any]:
        """(status of the N-ACTION, the association, still open)."""
        ae = AE("MR1")
        ae.add_requested_context(PushModel)
        ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", self.node_port, evt_handlers=self._handlers)
        request = Dataset()
        request.TransactionUID = transaction or generate_uid()
        request.ReferencedSOPSequence = []
        for sop_class_uid, sop_uid in items:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_uid
            request.ReferencedSOPSequence.append(item)
        arguments = {"action_type": 1, "instance_uid": PushModelInstance} | changes
        answer, _ = association.send_n_action(request, class_uid=PushModel, **arguments)
        return answer.Status, association

    def listen(self) -> Any:
        ae = AE("MR1")
        ae.add_supported_context(PushModel, scu_role=False, scp_role=True)
        return ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=self._handlers)


Attempt = Callable[[], State]


@pytest.fixture
def sources() -> list[SourceSettings]:
    return [SourceSettings(name="mr1", ae_title="MR1", host="127.0.0.1", timeout_s=300)]


@pytest.fixture
def commitments(
    tracker: Tracker, archive: Archive, sources: list[SourceSettings], monkeypatch: pytest.MonkeyPatch
) -> Commitments:
    monkeypatch.setattr(commitment_scp, "GRACE_S", 0)
    return Commitments(tracker, archive, sources, "DIFFMSR")


@pytest.fixture(params=["fast", "stock"])
def receiver(
    request: pytest.FixtureRequest, store: Store, commitments: Commitments, sources: list[SourceSettings]
) -> Iterator[Receiver]:
    settings = SCPSettings(host="127.0.0.1", port=free_port(), data_path=request.param)
    receiver = Receiver(settings, configured_callers(sources), store, commitments)
    receiver.start()
    yield receiver
    receiver.stop(1)


@pytest.fixture
def scanner(receiver: Receiver, sources: list[SourceSettings]) -> Scanner:
    scanner = Scanner(receiver)
    sources[0] = sources[0].model_copy(update={"port": scanner.port})
    return scanner


@pytest.fixture
def attempt(tracker: Tracker, archive: Archive, commitments: Commitments, sources: list[SourceSettings]) -> Attempt:
    """Work once at the report that is owed, as a service does; a restarted one if asked."""

    def work(restarted: bool = False) -> State:
        who = Commitments(tracker, archive, sources, "DIFFMSR") if restarted else commitments
        who._sources = sources
        claim = queue.claim(tracker, Kind.COMMIT, "host/receive/1")
        assert claim is not None
        with Lease(tracker, claim, threading.Event()) as lease:
            return queue.settle(tracker, claim, who.report(lease))

    return work


def named(instances: list[Dataset]) -> list[tuple[str, str]]:
    return [(str(ds.SOPClassUID), str(ds.SOPInstanceUID)) for ds in instances]


def test_reported_on_the_association_it_was_asked_on(scanner: Scanner, attempt: Attempt) -> None:
    instances = mr_series(3)
    scanner.send(instances)
    status, association = scanner.ask(*named(instances), transaction="1.2.3")
    assert status == 0x0000
    assert attempt() is State.DONE
    association.release()
    (report,) = scanner.reports
    assert (report.TransactionUID, scanner.event_type) == ("1.2.3", 1)
    assert "FailedSOPSequence" not in report
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [u for _, u in named(instances)]


def test_many_transactions_on_one_association(scanner: Scanner, attempt: Attempt) -> None:
    (ds,) = mr_series(1)
    scanner.send([ds])
    _, association = scanner.ask(*named([ds]))
    assert attempt() is State.DONE
    wanted = [ReferencedInstance(*one) for one in named([ds])]
    answer, _ = association.send_n_action(asking("1.2.3", wanted), 1, PushModel, PushModelInstance)
    assert answer.Status == 0x0000
    assert attempt() is State.DONE
    association.release()
    assert [report.TransactionUID == "1.2.3" for report in scanner.reports] == [False, True]


@pytest.mark.parametrize("restarted", [False, True], ids=["same process", "after a restart"])
def test_reported_on_another_association(scanner: Scanner, attempt: Any, restarted: bool) -> None:
    instances = mr_series(2)
    scanner.send(instances)
    status, association = scanner.ask(*named(instances))
    association.release()
    assert status == 0x0000
    server = scanner.listen()
    try:
        assert attempt(restarted) is State.DONE
    finally:
        server.shutdown()
    assert scanner.event_type == 1


def test_an_association_that_goes_on_sending_is_not_disturbed(
    scanner: Scanner, attempt: Attempt, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, sources: list[SourceSettings]
) -> None:
    first, second = mr_series(2)
    scanner.send([first])
    status, association = scanner.ask(*named([first]))
    assert status == 0x0000
    monkeypatch.setattr(commitment_scp, "GRACE_S", 60)
    address = sources[0]
    sources[0] = address.model_copy(update={"port": None})
    assert attempt() is State.RETRY_WAIT, "nowhere to go until it falls silent"
    sources[0] = address
    server = scanner.listen()
    try:
        administration.retry(tracker, views.jobs(tracker.database, kind=Kind.COMMIT)[0].id, "admin")
        assert attempt() is State.DONE
    finally:
        server.shutdown()
    assert scanner.event_type == 1
    assert association.send_c_store(second).Status == 0x0000
    association.release()


def test_what_is_not_kept_is_said(scanner: Scanner, attempt: Attempt, tracker: Tracker, archive: Archive) -> None:
    kept, other_class, gone, damaged, cut = mr_series(5)
    scanner.send([kept, other_class, gone, damaged, cut])
    stored = of_study(tracker, archive, kept.StudyInstanceUID)
    paths = {uid: Path(archive.location(instance.key)) for uid, instance in stored.items()}
    paths[gone.SOPInstanceUID].unlink()
    content = dcmread(paths[damaged.SOPInstanceUID])
    content.PatientID = "P2"
    content.save_as(paths[damaged.SOPInstanceUID])
    paths[cut.SOPInstanceUID].write_bytes(paths[cut.SOPInstanceUID].read_bytes()[:-1])
    enhanced = "1.2.840.10008.5.1.4.1.1.4.1"
    asked = [*named([kept, gone, damaged, cut]), (enhanced, str(other_class.SOPInstanceUID)), (MRImageStorage, "1.2.9")]
    _, association = scanner.ask(*asked)
    attempt()
    association.release()
    (report,) = scanner.reports
    assert scanner.event_type == 2
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [kept.SOPInstanceUID]
    assert {item.ReferencedSOPInstanceUID: item.FailureReason for item in report.FailedSOPSequence} == {
        gone.SOPInstanceUID: 0x0112, damaged.SOPInstanceUID: 0x0110, cut.SOPInstanceUID: 0x0110,
        other_class.SOPInstanceUID: 0x0119, "1.2.9": 0x0112,
    }  # fmt: skip


def test_a_scanner_that_does_not_listen_is_tried_again(scanner: Scanner, attempt: Attempt, tracker: Tracker) -> None:
    instances = mr_series(1)
    scanner.send(instances)
    _, association = scanner.ask(*named(instances))
    association.release()
    assert attempt() is State.RETRY_WAIT
    (job,) = views.jobs(tracker.database, kind=Kind.COMMIT)
    for part in ("source mr1", f"MR1 at 127.0.0.1:{scanner.port}", "connection refused", "check"):
        assert part in job.error


def test_a_scanner_that_does_not_understand_its_report_is_tried_again(
    scanner: Scanner, attempt: Attempt, tracker: Tracker
) -> None:
    instances = mr_series(1)
    scanner.send(instances)
    _, association = scanner.ask(*named(instances))
    association.release()
    scanner.status = 0x0115
    server = scanner.listen()
    try:
        assert attempt() is State.RETRY_WAIT
    finally:
        server.shutdown()
    (job,) = views.jobs(tracker.database, kind=Kind.COMMIT)
    assert "0x0115 (invalid argument value)" in job.error


def test_a_scanner_without_an_address_that_left_is_a_failure_with_a_remedy(
    scanner: Scanner, attempt: Attempt, tracker: Tracker, sources: list[SourceSettings]
) -> None:
    sources[0] = sources[0].model_copy(update={"port": None})
    instances = mr_series(1)
    scanner.send(instances)
    _, association = scanner.ask(*named(instances))
    association.release()
    assert attempt() is State.FAILED
    (job,) = views.jobs(tracker.database, kind=Kind.COMMIT)
    assert "[[sources]]" in job.error
    assert "queue retry" in job.error


def test_malformed_requests_are_answered_and_owe_nothing(scanner: Scanner, tracker: Tracker) -> None:
    one = (str(MRImageStorage), "1.2.9")
    for status, request in {
        0x0115: {"items": []},
        0x0123: {"items": [one], "action_type": 2},
        0x0112: {"items": [one], "instance_uid": "1.2.3"},
    }.items():
        items = request.pop("items")
        answered, association = scanner.ask(*items, **request)
        association.release()
        assert answered == status
    assert views.jobs(tracker.database, kind=Kind.COMMIT) == []


def test_a_transaction_that_comes_twice_is_one_until_it_is_reported(scanner: Scanner, attempt: Attempt) -> None:
    instances = mr_series(1)
    scanner.send(instances)
    first, one = scanner.ask(*named(instances), transaction="1.2.3")
    second, two = scanner.ask(*named(instances), transaction="1.2.3")
    assert (first, second) == (0x0000, 0x0000)
    assert attempt() is State.DONE
    one.release()
    two.release()
    assert len(scanner.reports) == 1
    third, again = scanner.ask(*named(instances), transaction="1.2.3")
    again.release()
    assert third == 0x0131


def test_a_report_for_a_transaction_of_nobody_is_not_taken(receiver: Receiver) -> None:
    ae = AE("MR1")
    ae.add_requested_context(PushModel)
    association = ae.associate("127.0.0.1", receiver.port)
    keep_answers(association)
    report = Dataset()
    report.TransactionUID = "1.2.3"
    answers = [
        association.send_n_event_report(report, event_type, PushModel, PushModelInstance)[0].Status
        for event_type in (1, 9)
    ]
    report.TransactionUID = ""
    answers.append(association.send_n_event_report(report, 1, PushModel, PushModelInstance)[0].Status)
    association.release()
    assert answers == [0x0115, 0x0113, 0x0115]
