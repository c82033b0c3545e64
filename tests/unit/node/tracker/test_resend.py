"""Results sent again, or for the first time, by an administrator, on SQLite and on PostgreSQL."""

from dataclasses import replace

import pytest

from node.archive.index import DerivedInstance
from node.config.settings import DestinationSettings
from node.errors import NotFoundError, TransitionError
from node.payloads import PairRequest, StackRequest
from node.tracker import administration, arrivals, deliveries, queue, steps, views
from node.tracker.administration import Resent
from node.tracker.audit import Action
from node.tracker.deliveries import InstanceAnswer
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, Failed
from node.tracker.states import Kind, State

from .conftest import Clock, arrival
from .jobs import QUIET_S, audited, claimed, matched, states

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", max_attempts=7)
OTHER = DestinationSettings(name="other", ae_title="OTHER", host="127.0.0.1")
REQUEST = PairRequest(
    study_uid="1.2",
    target=StackRequest(series_uid="1.2.1", contrast="T2", sop_uids=("1.2.1.1",)),
    reference=StackRequest(series_uid="1.2.2", contrast="T1", sop_uids=("1.2.2.1",)),
)


def made(tracker: Tracker, clock: Clock, *destinations: DestinationSettings) -> None:
    """A result, derived, and a delivery per destination: jobs 2, 3 and from 4."""
    matched(tracker, clock, replace(steps.infer_job("infer:1", REQUEST, 3), revision=2))
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (steps.derive_job("infer:1", REQUEST),)))
    then = tuple(steps.deliver_job("infer:1", REQUEST, d.name, d.max_attempts) for d in destinations)
    queue.settle(tracker, claimed(tracker, Kind.DERIVE), Done("ok", None, then))


def delivered(tracker: Tracker, **files: bool) -> None:
    """Carry out a delivery; which instances the destination accepted."""
    claim = claimed(tracker, Kind.DELIVER)
    deliveries.enter(tracker, claim, [DerivedInstance(uid, f"derived/r/0-{uid}.dcm", "ab") for uid in files])
    for uid, accepted in files.items():
        deliveries.note(tracker, claim, [InstanceAnswer(uid, accepted, "0x0000 success" if accepted else "0xA700")])
    queue.settle(tracker, claim, Done("sent") if all(files.values()) else Failed("not accepted"))


def test_a_delivered_result_is_sent_again_whole(tracker: Tracker, clock: Clock) -> None:
    made(tracker, clock, PACS)
    delivered(tracker, a=True, b=True)
    assert administration.resend_job(tracker, 4, [PACS, OTHER], "admin") == [Resent(4, "pacs", State.READY)]
    job = views.job(tracker.database, 4)
    assert (job.events[-1].actor, job.events[-1].why) == ("admin", "redelivery requested by an administrator")
    (row,) = audited(tracker, Action.ADMINISTERED)
    assert row == ("admin", "1.2", {"job": 4, "kind": "deliver", "act": "redelivery requested by an administrator"})
    claim = claimed(tracker, Kind.DELIVER)
    assert claim.attempts == 1
    assert deliveries.entered(tracker, claim) == [], "every instance is sent again"


@pytest.mark.parametrize("job_id", [2, 3], ids=["infer", "derive"])
def test_a_result_made_without_a_destination_is_sent_later(tracker: Tracker, clock: Clock, job_id: int) -> None:
    made(tracker, clock)
    assert states(tracker, Kind.DELIVER) == []
    sent = administration.resend_job(tracker, job_id, [PACS, OTHER], "admin")
    assert [(each.destination, each.state) for each in sent] == [("pacs", "ready"), ("other", "ready")]
    job = views.job(tracker.database, sent[0].job_id)
    assert (job.max_attempts, job.parent_id, job.payload["result"]) == (7, 3, "infer:1")
    assert claimed(tracker, Kind.DELIVER).job_id == sent[0].job_id


def test_a_result_goes_to_one_destination_when_that_is_said(tracker: Tracker, clock: Clock) -> None:
    made(tracker, clock, PACS)
    delivered(tracker, a=True)
    (sent,) = administration.resend_job(tracker, 4, [PACS, OTHER], "admin", to="other")
    assert (sent.destination, sent.state) == ("other", State.READY)
    assert states(tracker, Kind.DELIVER) == ["done", "ready"]
    with pytest.raises(NotFoundError, match="named 'nowhere'; known: pacs, other"):
        administration.resend_job(tracker, 4, [PACS, OTHER], "admin", to="nowhere")
    with pytest.raises(NotFoundError, match=r"no \[\[destinations\]\] are configured"):
        administration.resend_job(tracker, 2, [], "admin")


def test_a_delivery_on_its_way_is_left_alone_and_a_failed_one_begins_anew(tracker: Tracker, clock: Clock) -> None:
    made(tracker, clock, PACS, OTHER)
    delivered(tracker, a=False)
    administration.hold(tracker, 5, "admin")
    sent = administration.resend_job(tracker, 2, [PACS, OTHER], "admin")
    assert [(each.destination, each.state) for each in sent] == [("pacs", State.READY), ("other", State.HELD)]


def test_every_result_of_a_study_is_sent_again(tracker: Tracker, clock: Clock) -> None:
    made(tracker, clock, PACS)
    delivered(tracker, a=True)
    (sent,) = administration.resend_study(tracker, "1.2", [PACS], "admin")
    assert sent == Resent(4, "pacs", State.READY)
    with pytest.raises(NotFoundError, match=r"study 9.9 has no result"):
        administration.resend_study(tracker, "9.9", [PACS], "admin")


def test_what_cannot_be_sent_says_why(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, replace(steps.infer_job("infer:1", REQUEST, 3), revision=2))
    with pytest.raises(NotFoundError, match="job 1 is a match job"):
        administration.resend_job(tracker, 1, [PACS], "admin")
    with pytest.raises(NotFoundError, match="job 2 has no result to send yet"):
        administration.resend_job(tracker, 2, [PACS], "admin")
    with pytest.raises(NotFoundError, match="no job 99"):
        administration.resend_job(tracker, 99, [PACS], "admin")


def test_a_result_of_series_that_have_grown_since_is_not_sent_again(tracker: Tracker, clock: Clock) -> None:
    made(tracker, clock, PACS)
    delivered(tracker, a=True)
    arrivals.record(tracker, arrival(2, "1.2.1"), QUIET_S)
    with pytest.raises(TransitionError, match="have changed since"):
        administration.resend_job(tracker, 4, [PACS], "admin")
    with pytest.raises(NotFoundError, match="no result to send"):
        administration.resend_study(tracker, "1.2", [PACS], "admin")
