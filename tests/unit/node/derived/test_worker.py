"""The derive stage on a tracker and an archive as the infer stage leaves them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.archive.layout import result_key
from node.config.settings import DestinationSettings, OutputSettings, ReportSettings, Settings
from node.result import Quality
from node.tracker import views
from node.tracker.states import Kind, State
from tests.unit.node.kept import path_of, spoil
from tests.unit.node.super_resolved import RESULT, SuperResolved

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", max_attempts=7)
OTHER = DestinationSettings(name="other", ae_title="OTHER", host="127.0.0.1")


@pytest.fixture
def node(tmp_path: Path, study: Any) -> Iterator[SuperResolved]:
    made = SuperResolved(tmp_path, study)
    yield made
    made.database.dispose()


def test_one_delivery_per_destination_follows(node: SuperResolved) -> None:
    assert node.derive(Settings(destinations=[PACS, OTHER])) is State.DONE
    assert len(node.derived()) == 4, "three images and their report"
    assert node.jobs(Kind.DELIVER) == [(State.READY, None)] * 2
    job = node.last(Kind.DELIVER)
    assert (job.payload["destination"], job.payload["result"]) == ("other", RESULT)
    assert job.parent_id == node.last(Kind.DERIVE).id


def test_everything_is_made_without_a_destination_too(node: SuperResolved) -> None:
    assert node.derive(Settings()) is State.DONE
    assert len(node.derived()) == 4
    assert "Super-resolution report" in node.archive.page(RESULT).decode()
    assert node.jobs(Kind.DELIVER) == []
    assert "no [[destinations]] is configured" in node.last(Kind.DERIVE).events[-1].why


def test_what_was_derived_stays_whatever_the_configuration_says_later(node: SuperResolved) -> None:
    node.derive()
    before = node.derived()
    make_derived_again(node)
    other = Settings(output=OutputSettings(series_number_offset=100), report=ReportSettings(sop_class="none"))
    assert node.derive(other) is State.DONE
    assert node.derived() == before


def test_half_of_an_encoding_counts_for_nothing(node: SuperResolved) -> None:
    node.derive()
    before = node.derived()
    (node.derived_folder() / "index.json").unlink()  # a crash before it was written
    (node.derived_folder() / f"00000-{next(iter(before))}.dcm").write_bytes(b"half")
    make_derived_again(node)
    assert node.derive() is State.DONE
    assert node.derived() == before


@pytest.mark.parametrize("hold", [True, False])
def test_deliveries_of_a_result_that_is_not_usable_are_held_if_that_is_configured(
    tmp_path: Path, study: Any, hold: bool
) -> None:
    doubtful = Quality([0.2] * 3, [0.0] * 3, None, None, False, ["3 slices differ."])
    node = SuperResolved(tmp_path, study.with_result(quality=doubtful))
    node.derive(Settings(destinations=[PACS], report=ReportSettings(hold=hold)))
    expected = (State.HELD, "graded not usable: 3 slices differ.") if hold else (State.READY, None)
    assert node.jobs(Kind.DELIVER) == [expected]


def test_a_destination_gets_the_grades_that_it_wants(tmp_path: Path, study: Any) -> None:
    review = OTHER.model_copy(update={"only": ["not usable"]})
    strict = PACS.model_copy(update={"only": ["usable"]})
    doubtful = Quality([0.2] * 3, [0.0] * 3, None, None, False, ["3 slices differ."])
    for name, quality, goes_to in (("good", None, "pacs"), ("doubtful", doubtful, "other")):
        (tmp_path / name).mkdir()
        node = SuperResolved(tmp_path / name, study.with_result(quality=quality))
        node.derive(Settings(destinations=[strict, review]))
        assert len(node.jobs(Kind.DELIVER)) == 1
        assert node.last(Kind.DELIVER).payload["destination"] == goes_to
        node.database.dispose()
    node = SuperResolved(tmp_path / "nowhere", study.with_result(quality=doubtful))
    node.derive(Settings(destinations=[strict]))
    assert "no [[destinations]] wants results graded not usable" in node.last(Kind.DERIVE).events[-1].why


def test_a_destination_gets_the_results_whose_warnings_it_wants(tmp_path: Path, study: Any) -> None:
    review = OTHER.model_copy(update={"codes": ["W_COVERAGE", "W_LOSSY"]})
    for name, warnings, goes_to in (
        ("quiet", [], ["pacs"]),
        ("other", ["W_SINGLE_SHOT: blurred"], ["pacs"]),
        ("named", ["W_COVERAGE: 90 %"], ["other", "pacs"]),
    ):
        (tmp_path / name).mkdir()
        node = SuperResolved(tmp_path / name, study.with_result(warnings=warnings))
        node.derive(Settings(destinations=[PACS, review]))
        assert sorted(str(job.destination) for job in views.jobs(node.database, kind=Kind.DELIVER)) == goes_to
        node.database.dispose()


def test_a_destination_gets_the_results_of_sources_that_were_corrected(tmp_path: Path, study: Any) -> None:
    study.target[0].PatientSex = "MALE"  # not one of the values that the standard allows
    review = OTHER.model_copy(update={"codes": ["W_ATTRIBUTES_CORRECTED"]})
    node = SuperResolved(tmp_path, study)
    for _ in range(2):  # the second time what was derived is found, not made
        assert node.derive(Settings(destinations=[review])) is State.DONE
        assert node.last(Kind.DELIVER).payload["destination"] == "other"
        assert node.archive.derived_codes(RESULT) == {"W_ATTRIBUTES_CORRECTED"}
        make_derived_again(node)
    node.database.dispose()


@pytest.mark.parametrize("damage", [Path.unlink, spoil], ids=["missing", "damaged"])
def test_a_lost_result_is_made_again_while_the_derive_job_waits(node: SuperResolved, damage: Any) -> None:
    path = Path(node.archive.location(result_key(RESULT)))
    damage(path)
    assert node.derive() is State.RETRY_WAIT
    job = node.last(Kind.DERIVE)
    assert job.attempts == 0, "waiting is not an attempt"
    assert "waits for infer job" in job.error
    assert node.jobs(Kind.INFER)[0][0] is State.READY
    path.unlink(missing_ok=True)
    node.infer()
    assert node.derive() is State.DONE
    assert len(node.derived()) == 4


def test_a_header_that_is_missing_fails_the_job_in_words(tmp_path: Path, study: Any) -> None:
    node = SuperResolved(tmp_path, study.with_result(source_uids=["1.2.3"] * 3))
    assert node.derive() is State.FAILED
    assert "1.2.3" in (node.jobs(Kind.DERIVE)[0][1] or "")


@pytest.mark.parametrize("role", ["target", "reference"])
def test_nothing_is_made_of_a_source_that_is_damaged(node: SuperResolved, role: str) -> None:
    source = getattr(node.study, role)[1]
    spoil(path_of(node.tracker, node.archive, source))
    assert node.derive(Settings(destinations=[PACS])) is State.FAILED
    assert node.jobs(Kind.DERIVE)[0][1].startswith("E_STORED_DAMAGED: ")
    assert node.archive.derived(RESULT) is None
    assert node.jobs(Kind.DELIVER) == []


def make_derived_again(node: SuperResolved) -> None:
    """Have the derive job done once more, as a delivery does whose files are missing."""
    from node.tracker import transitions
    from node.tracker.tables import Job

    with node.tracker.write() as session:
        job = session.get_one(Job, node.last(Kind.DERIVE).id)
        transitions.make_due(session, job, node.now)
        transitions.move(session, node.now, job, State.READY, "test", "to be done again")
