"""When a series counts as complete: a count may shorten the wait, a pause on an open association lengthens it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset

from node.match.worker import is_refuted
from node.tracker import associations, queue, views
from node.tracker.states import Kind, State
from tests.dicom import mr_series, study

from .test_worker import MatchStage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[MatchStage]:
    stage = MatchStage(tmp_path, None)
    yield stage
    stage.database.dispose()


def announcing(instances: list[Dataset], count: int) -> list[Dataset]:
    for ds in instances:
        ds.ImagesInAcquisition = count
    return instances


def due(stage: MatchStage) -> float:
    (job,) = views.jobs(stage.database, kind=Kind.MATCH)
    assert job.next_attempt_at is not None
    return (job.next_attempt_at - stage.now) / timedelta(seconds=1)


def test_a_count_shortens_the_wait_to_a_second(stage: MatchStage) -> None:
    t2, t1 = study()
    stage.receive(announcing(t2, 4))
    stage.receive(announcing(t1, 4))
    assert due(stage) == 1
    assert stage.match(after_s=1) is State.DONE
    assert stage.states(Kind.INFER) == ["ready"]


@pytest.mark.parametrize("flaw", ["number above it", "number twice", "another count"])
def test_a_count_that_the_headers_contradict_shortens_nothing(stage: MatchStage, flaw: str) -> None:
    t2, t1 = study()
    announcing(t2, 4), announcing(t1, 4)
    if flaw == "number above it":  # every second slice of eight, as an interleaved scan sends them
        t2[3].InstanceNumber = 7
    elif flaw == "number twice":
        t2[3].InstanceNumber = 1
    else:
        t2[0].ImagesInAcquisition = 8
    stage.receive(t2)
    stage.receive(t1)
    assert stage.match(after_s=1) is State.RECEIVING
    assert stage.states(Kind.INFER) == []
    assert stage.match(after_s=9) is State.DONE


def test_a_count_that_was_too_small_delivers_no_part_of_a_series(stage: MatchStage) -> None:
    """15 of 150, in the order of their numbers, with the pauses of a scanner on one association."""
    t2, t1 = study(8)
    stage.receive(t1)
    associations.opened(stage.tracker, "a", str(t2[0].StudyInstanceUID))
    for ds in announcing(t2, 4)[:4]:
        stage.receive([ds])
    assert stage.match(after_s=20) is State.RECEIVING, "a pause of 20 s, and the association is open"
    stage.receive(t2[4:])
    associations.closed(stage.tracker, "a", "MR1")
    assert due(stage) == 0
    assert stage.match(after_s=0) is State.RECEIVING
    assert stage.states(Kind.INFER) == []
    assert stage.match(after_s=10) is State.DONE
    (infer,) = views.jobs(stage.database, kind=Kind.INFER)
    assert len(views.job(stage.database, infer.id).payload["target"]["sop_uids"]) == 8


def test_an_association_that_brings_no_more_of_a_study_delays_it_for_so_long_only(stage: MatchStage) -> None:
    t2, t1 = study()
    for name in ("a", "b"):
        associations.opened(stage.tracker, name, str(t2[0].StudyInstanceUID))
    stage.receive(t2 + t1)
    assert stage.match(after_s=10) is State.RECEIVING
    associations.closed(stage.tracker, "b", "MR1")
    assert stage.match(after_s=0) is State.RECEIVING, "the other one is open"
    assert due(stage) == 50
    assert stage.match(after_s=50) is State.DONE


def test_associations_of_before_a_restart_delay_nothing(stage: MatchStage) -> None:
    t2, t1 = study()
    associations.opened(stage.tracker, "a", str(t2[0].StudyInstanceUID))
    associations.forget(stage.tracker)
    stage.receive(t2 + t1)
    assert stage.match(after_s=10) is State.DONE


def test_a_study_of_which_everything_was_dropped_is_refused(stage: MatchStage) -> None:
    from node.tracker import corrections

    t2 = mr_series(3)
    stage.receive(t2)
    names = str(t2[0].StudyInstanceUID), str(t2[0].SeriesInstanceUID)
    corrections.drop_series(stage.tracker, stage.archive, *names, "admin")
    assert stage.match(after_s=0) is State.REFUSED
    assert queue.next_due(stage.tracker, Kind.MATCH) is None


def test_a_series_of_one_instance_refutes_nothing() -> None:
    assert not is_refuted(announcing(mr_series(1), 1))
