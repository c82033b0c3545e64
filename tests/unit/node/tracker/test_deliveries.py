"""What a destination said of every instance, and its reports of storage commitment."""

import pytest

from node.archive.index import DerivedInstance
from node.errors import LeaseLostError
from node.tracker import commitments, deliveries, queue
from node.tracker.deliveries import InstanceAnswer
from node.tracker.handle import Tracker
from node.tracker.outcomes import Committing, Done, NewJob
from node.tracker.states import Kind, State

from .conftest import Clock
from .jobs import claimed, deliver_job, infer_job, matched

MADE = [
    DerivedInstance("9.1", "derived/r/00000-9.1.dcm", "ab"),
    DerivedInstance("9.2", "derived/r/00001-9.2.dcm", "cd"),
]


def test_per_instance_status_is_kept(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (deliver_job(),)))
    claim = claimed(tracker, Kind.DELIVER)
    deliveries.enter(tracker, claim, MADE)
    deliveries.note(tracker, claim, [InstanceAnswer("9.1", True, "0x0000 success")])
    deliveries.enter(tracker, claim, MADE)
    assert [(d.sop_uid, d.accepted) for d in deliveries.entered(tracker, claim)] == [("9.1", True), ("9.2", False)]
    queue.rescue(tracker, dead=lambda worker: True)
    with pytest.raises(LeaseLostError):
        deliveries.note(tracker, claim, [InstanceAnswer("9.2", True, "0x0000 success")])


@pytest.mark.parametrize("early", [False, True], ids=["after", "before the one who asked has settled"])
def test_a_report_makes_a_committing_delivery_due(tracker: Tracker, clock: Clock, early: bool) -> None:
    queue.enqueue(tracker, NewJob(Kind.DELIVER, "deliver", "1.2", {"destination": "pacs"}, 3), "test")
    claim = claimed(tracker, Kind.DELIVER)
    deliveries.enter(tracker, claim, MADE)
    commitments.opened(tracker, claim, "1.9")
    asked = Committing("asked", "1.9", 600)
    if not early:
        assert queue.settle(tracker, claim, asked) is State.COMMITTING
        assert queue.claim(tracker, Kind.DELIVER, "w") is None
    assert commitments.reported(tracker, "1.9", {"9.1"}, {"9.2": "0x0112 (no such object instance)", "9.3": "not ours"})
    if early:
        assert queue.settle(tracker, claim, asked) is State.COMMITTING
    again = claimed(tracker, Kind.DELIVER)
    assert again.was is State.COMMITTING
    assert commitments.answered(tracker, again)
    assert [(d.accepted, d.committed, d.status) for d in deliveries.entered(tracker, again)] == [
        (True, True, "committed"), (False, False, "not committed: 0x0112 (no such object instance)"),
    ]  # fmt: skip
