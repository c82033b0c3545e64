from dataclasses import replace

from node.tracker import pauses, queue, views
from node.tracker.due import Destinations
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done
from node.tracker.states import Kind

from .conftest import Clock
from .jobs import claimed, deliver_job, infer_job, matched


def test_what_is_paused_is_not_begun_and_goes_on_at_once_when_resumed(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    pauses.pause(tracker, pauses.INFERENCE, "anna")
    pauses.pause(tracker, pauses.INFERENCE, "otto")  # changes nothing: it is anna's
    assert queue.claim(tracker, Kind.INFER, "w") is None
    assert queue.next_due(tracker, Kind.INFER) is None
    assert pauses.paused(tracker.database)[pauses.INFERENCE].actor == "anna"
    another = Tracker(tracker.database, clock=clock)  # as after a restart
    assert queue.claim(another, Kind.INFER, "w") is None
    seen = tracker.wakeups.count(Kind.INFER)
    pauses.resume(tracker, pauses.INFERENCE, "otto")
    assert tracker.wakeups.count(Kind.INFER) == seen + 1
    assert queue.claim(tracker, Kind.INFER, "w") is not None
    assert pauses.paused(tracker.database) == {}
    said = [row.details for row in views.audit_rows(tracker.database) if row.action == "administered"]
    assert said == [{"paused": "inference"}, {"resumed": "inference"}]


def test_one_destination_is_paused_alone(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    pauses.pause(tracker, pauses.deliveries_to("pacs"), "anna")
    queue.settle(
        tracker, claimed(tracker, Kind.INFER), Done("made", None, (replace(deliver_job(), destination="pacs"),))
    )
    pacs, others = Destinations(frozenset({"pacs"})), Destinations(frozenset({"pacs"}), others=True)
    assert queue.claim(tracker, Kind.DELIVER, "w", pacs) is None
    assert queue.claim(tracker, Kind.DELIVER, "w", others) is None
    pauses.resume(tracker, pauses.deliveries_to("pacs"), "anna")
    assert queue.claim(tracker, Kind.DELIVER, "w", pacs) is not None
