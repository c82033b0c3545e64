"""Series that come again under new SOP instance UIDs: the later twin is used, and no slice is there twice."""

from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from node.match.twins import identity, untwinned
from node.tracker import views
from node.tracker.states import Kind, State
from tests.dicom import enhanced, mr_series, study

from .test_kept_pair import deliver, requests
from .test_worker import MatchStage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[MatchStage]:
    stage = MatchStage(tmp_path, None)
    yield stage
    stage.database.dispose()


def again(instances: list[Dataset], new_series: bool = False) -> list[Dataset]:
    """The same images under new SOP instance UIDs, in the same series or in one with a new UID."""
    series, copies = str(generate_uid()), []
    for ds in instances:
        copy = deepcopy(ds)
        copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        if new_series:
            copy.SeriesInstanceUID = series
        copies.append(copy)
    return copies


def uids(instances: list[Dataset]) -> set[str]:
    return {str(ds.SOPInstanceUID) for ds in instances}


@pytest.mark.parametrize("new_series", [False, True], ids=["in the same series", "as another series"])
@pytest.mark.parametrize("delivered", [False, True])
def test_a_target_that_comes_again_takes_the_place_of_its_twin(
    stage: MatchStage, new_series: bool, delivered: bool
) -> None:
    t2, t1 = study()
    stage.receive(t2 + t1)
    assert stage.match(after_s=10) is State.DONE
    first = deliver(stage) if delivered else None
    later = again(t2, new_series)
    stage.now += timedelta(seconds=1)
    stage.receive(later)
    assert stage.match(after_s=10) is State.DONE
    assert stage.states(Kind.INFER) == ["done" if delivered else "cancelled", "ready"]
    latest = requests(stage)[-1]
    assert set(latest.target.sop_uids) == uids(later)
    assert latest.replaces == first
    verdict = views.verdict(stage.database, str(t2[0].StudyInstanceUID))
    assert "4 images were sent again under other SOP instance UIDs" in verdict.sentence


def test_a_reference_that_comes_again_changes_nothing_that_was_delivered(stage: MatchStage) -> None:
    t2, t1 = study()
    stage.receive(t2 + t1)
    stage.match(after_s=10)
    deliver(stage)
    stage.now += timedelta(seconds=1)
    stage.receive(again(t1))
    stage.receive(again(t1, new_series=True))
    assert stage.match(after_s=10) is State.DONE
    assert stage.states(Kind.INFER) == ["done"]


def test_half_of_a_series_that_comes_again_is_no_target_of_its_own(stage: MatchStage) -> None:
    t2, t1 = study(6)
    stage.receive(t2 + t1)
    stage.now += timedelta(seconds=1)
    stage.receive(again(t2, new_series=True)[:4])
    assert stage.match(after_s=10) is State.DONE
    (request,) = requests(stage)
    assert set(request.target.sop_uids) == uids(t2)


def test_half_of_the_slices_of_a_series_come_again(stage: MatchStage) -> None:
    t2, t1 = study(6)
    stage.receive(t2 + t1)
    stage.now += timedelta(seconds=1)
    later = again(t2)[:3]
    stage.receive(later)
    assert stage.match(after_s=10) is State.DONE
    (request,) = requests(stage)
    assert set(request.target.sop_uids) == uids(later) | uids(t2[3:])


def test_an_enhanced_instance_has_a_twin_too() -> None:
    images = mr_series(3)
    one = enhanced(images)
    one.AcquisitionDateTime, one.InstanceNumber = "20260101101800", 1
    (other,) = again([one])
    assert identity(one) == identity(other) is not None
    assert untwinned([one, other], ()).headers == (other,)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("InstanceNumber", 9),
        ("EchoNumbers", 2),
        ("AcquisitionTime", "101900"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "P", "ND"]),
    ],
)
def test_another_image_at_the_same_place_is_no_twin(keyword: str, value: object) -> None:
    (one,) = mr_series(1)
    (other,) = again([one])
    assert untwinned([one, other], ()).headers == (other,)
    assert untwinned([one, other], uids([one])).headers == (one,)
    setattr(other, keyword, value)
    assert untwinned([one, other], ()).headers == (one, other)
