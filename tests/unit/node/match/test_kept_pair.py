"""What was delivered: kept when only another reference comes, replaced when the target itself has changed."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from node.config.settings import DestinationSettings
from node.match.worker import make_match_handler
from node.payloads import PairRequest
from node.tracker import administration, corrections, deliveries, queue, steps, views
from node.tracker.outcomes import Done
from node.tracker.states import Kind, State
from tests.dicom import T1, mr_series, study
from tests.unit.node.kept import as_received, keep

from .test_worker import MatchStage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[MatchStage]:
    stage = MatchStage(tmp_path, None)
    yield stage
    stage.database.dispose()


def deliver(stage: MatchStage) -> str:
    """Do what the latest match asks for, with an empty result; the key of the infer job."""
    infer = queue.claim(stage.tracker, Kind.INFER, "w")
    assert infer is not None
    request = PairRequest.model_validate(infer.payload)
    queue.settle(stage.tracker, infer, Done("ok", None, (steps.derive_job(infer.key, request),)))
    derive = queue.claim(stage.tracker, Kind.DERIVE, "w")
    assert derive is not None
    queue.settle(stage.tracker, derive, Done("ok", None, (steps.deliver_job(infer.key, request, "pacs", 3),)))
    delivery = queue.claim(stage.tracker, Kind.DELIVER, "w")
    assert delivery is not None
    queue.settle(stage.tracker, delivery, Done("sent"))
    return infer.key


def another_reference(t1: list[Dataset]) -> list[Dataset]:
    """Acquired later, and so preferred."""
    rows, columns = t1[0].Rows, t1[0].Columns
    later = mr_series(
        len(t1), rows, columns, 1.0, study_uid=str(t1[0].StudyInstanceUID),
        frame_uid=str(t1[0].FrameOfReferenceUID), series_number=9, **(T1 | {"AcquisitionTime": "115959"}),
    )  # fmt: skip
    for one, place in zip(later, t1, strict=True):
        one.ImagePositionPatient = place.ImagePositionPatient
    return later


def requests(stage: MatchStage) -> list[PairRequest]:
    return views.requests(stage.database, str(views.jobs(stage.database)[0].study_uid))


@pytest.mark.parametrize("kept", [True, False])
def test_a_further_reference_changes_nothing_that_was_delivered(stage: MatchStage, kept: bool) -> None:
    rules = stage.rules.model_copy(update={"keep_delivered": kept})
    stage.work = make_match_handler(stage.tracker, stage.archive, stage.completion, rules, stage.model, {}, 3, None)
    t2, t1 = study()
    stage.receive(t2 + t1)
    stage.match(after_s=10)
    first = deliver(stage)
    stage.receive(another_reference(t1))
    assert stage.match(after_s=10) is State.DONE
    if kept:
        assert stage.states(Kind.INFER) == ["done"]
        verdict = views.verdict(stage.database, str(t2[0].StudyInstanceUID))
        assert "is kept: a result with it was delivered already" in verdict.targets[0].reasons[0]
    else:
        assert [request.replaces for request in requests(stage)] == [None, first]
        second, pacs = deliver(stage), DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1")
        administration.resend_study(stage.tracker, str(t2[0].StudyInstanceUID), [pacs], "admin")
        resent = queue.claim(stage.tracker, Kind.DELIVER, "w")
        assert resent is not None and resent.payload["result"] == second, "not what it replaced"
        assert queue.claim(stage.tracker, Kind.DELIVER, "w") is None


def test_a_reference_that_comes_before_anything_is_sent_is_used(stage: MatchStage) -> None:
    t2, t1 = study()
    stage.receive(t2 + t1)
    stage.match(after_s=10)
    stage.receive(another_reference(t1))
    stage.match(after_s=10)
    assert stage.states(Kind.INFER) == ["cancelled", "ready"]
    assert [request.replaces for request in requests(stage)] == [None, None]


def test_settings_that_changed_make_no_second_result_of_a_delivered_pair(stage: MatchStage) -> None:
    t2, t1 = study()
    stage.receive(t2 + t1)
    stage.match(after_s=10)
    deliver(stage)
    stage.work = make_match_handler(
        stage.tracker, stage.archive, stage.completion, stage.rules, stage.model, {"version": "2"}, 3, None
    )
    stage.receive(mr_series(3, study_uid=str(t2[0].StudyInstanceUID), series_number=7))
    stage.match(after_s=10)
    assert stage.states(Kind.INFER) == ["done"]


def test_a_target_that_grew_replaces_what_was_delivered(stage: MatchStage) -> None:
    t2, t1 = study(8)
    stage.receive(t2[:5] + t1)
    stage.match(after_s=10)
    first = deliver(stage)
    stage.receive(t2[5:])
    stage.match(after_s=10)
    assert stage.states(Kind.INFER) == ["done", "ready"]
    assert [request.replaces for request in requests(stage)] == [None, first]
    second = deliver(stage)
    assert stage.states(Kind.DELIVER) == ["done", "done"]
    assert second != first


def corrected(ds: Dataset, **changes: Any) -> Dataset:
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def test_a_corrected_pair_replaces_what_was_delivered(stage: MatchStage) -> None:
    t2, t1 = study()
    stage.receive(t2 + t1)
    stage.match(after_s=10)
    first = deliver(stage)
    for ds in t2 + t1:
        content, digest = as_received(corrected(ds, PatientName="Muster^Erika"))
        names = str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID)
        from node.tracker.arrivals import Arrival

        arrival = Arrival(
            sop_uid=names[2], series_uid=names[1], study_uid=names[0], sop_class_uid=str(ds.SOPClassUID),
            transfer_syntax_uid=digest.transfer_syntax_uid or "", sha256=digest.sha256 or "", size=len(content), source="MR1",
            key=stage.archive.put_instance(*names, content, digest), header=partial(lambda one: one, ds),
        )  # fmt: skip
        assert corrections.correct(stage.tracker, arrival, ["PatientName"], 10, 1)
        assert not corrections.correct(stage.tracker, replace(arrival), ["PatientName"], 10, 1), "it is version 2 now"
    stage.match(after_s=10)
    assert [(r.replaces, bool(r.content)) for r in requests(stage)] == [(None, False), (first, True)]
    assert deliver(stage) != first


def test_a_dropped_series_that_comes_again_is_another_pair(stage: MatchStage) -> None:
    t2, t1 = study()
    stage.receive(t2 + t1)
    stage.match(after_s=10)
    first = deliver(stage)
    names = str(t2[0].StudyInstanceUID), str(t2[0].SeriesInstanceUID)
    corrections.drop_series(stage.tracker, stage.archive, *names, "admin")
    assert stage.match(after_s=0) is State.WAITING_PAIR
    for ds in t2:
        keep(stage.tracker, stage.archive, corrected(ds, PixelData=bytes(len(ds.PixelData))))
    stage.match(after_s=10)
    assert [(r.replaces, bool(r.content)) for r in requests(stage)] == [(None, False), (first, True)]


def test_a_delivery_that_has_begun_counts_as_delivered(stage: MatchStage) -> None:
    t2, t1 = study()
    stage.receive(t2 + t1)
    stage.match(after_s=10)
    infer = queue.claim(stage.tracker, Kind.INFER, "w")
    assert infer is not None
    request = PairRequest.model_validate(infer.payload)
    queue.settle(stage.tracker, infer, Done("ok", None, (steps.deliver_job(infer.key, request, "pacs", 3),)))
    sending = queue.claim(stage.tracker, Kind.DELIVER, "w")
    assert sending is not None
    deliveries.enter(stage.tracker, sending, [])
    stage.receive(another_reference(t1))
    stage.match(after_s=10)
    assert stage.states(Kind.DELIVER) == ["sending"]
    assert stage.states(Kind.INFER) == ["done"]
