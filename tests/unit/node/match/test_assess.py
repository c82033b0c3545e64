"""Verdicts on whole studies."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from node.config.match import MatchSettings
from node.match.assess import assess_study
from node.match.explanation import lines
from node.match.stack_roles import ModelFacts
from node.payloads import PairRequest
from node.verdicts import StudyVerdict
from tests.unit.node.match.builder import FLAIR, MODEL, PD, SAGITTAL, series, t1, t2

ROOT = Path(__file__).parents[4]


def assess(*parts: list[Any], settings: MatchSettings | None = None, model: ModelFacts = MODEL) -> StudyVerdict:
    return assess_study([h for part in parts for h in part], settings or MatchSettings(), model)


def test_a_pair() -> None:
    verdict = assess(t2(), t1())
    assert (verdict.outcome, verdict.code, verdict.missing) == ("paired", None, None)
    (wanted,) = verdict.requests
    assert wanted.study_uid == verdict.study_uid
    assert wanted.target.sop_uids == tuple(h.SOPInstanceUID for h in t2())
    assert (wanted.target.contrast, wanted.reference.contrast) == ("T2", "T1")
    assert wanted.warnings == ()


def test_every_target_gets_a_request() -> None:
    verdict = assess(t2(3), t2(4), series(7, FLAIR), t1())
    assert [(o.target.series_uid[-1], o.target.contrast) for o in verdict.requests] == [
        ("3", "T2"),
        ("4", "T2"),
        ("7", "T2-FLAIR"),
    ]


def test_a_target_left_without_reference_is_named_beside_the_pair() -> None:
    verdict = assess(t2(3), t2(4, FrameOfReferenceUID="1.2.3"), t1())
    assert verdict.sentence == (
        "To be super-resolved: series 3 (T2) guided by series 5 (T1). No reference fits series 4 (T2)."
    )


def test_an_interpolated_target_says_what_was_acquired_and_warns() -> None:
    target = t2(matrix=(256, 256), spacing=(0.9, 0.9), AcquisitionMatrix=[0, 64, 48, 0])
    verdict = assess(target, t1(spacing=(0.6, 0.6), matrix=(384, 384)))
    (wanted,) = verdict.requests
    assert any(w.startswith("W_") and "interpolated" in w for w in wanted.warnings)
    facts = {s.label: {f.name: (f.value, f.source, f.confidence) for f in s.acquisition} for s in verdict.stacks}
    assert facts["series 3"]["acquired rows"] == ("48 of 256", "header", None)
    assert facts["series 3"]["filter over k-space"] == ("unknown", "unknown", None)
    assert facts["series 5"] == {}, "a reference is used as it is stored"


def test_slices_that_contradict_each_other_tell_nothing() -> None:
    target = t2()
    target[2].AcquisitionMatrix = [0, 64, 48, 0]
    (stack, _) = assess(target, t1()).stacks
    values = {f.name: f.value for f in stack.acquisition}
    assert (values["acquired rows"], values["acquired columns"]) == ("unknown", "64 of 64")


def test_a_request_of_a_version_before_is_read() -> None:
    (wanted,) = assess(t2(), t1()).requests
    old = wanted.model_dump(mode="json") | {"acquired_matrix": [48, 64]}
    assert PairRequest.model_validate(old) == wanted


def test_warnings_of_both_stacks_and_the_pair_go_with_the_request_once() -> None:
    lossy = {"LossyImageCompression": "01"}
    accept = MatchSettings(lossy="accept")
    (wanted,) = assess(t2(**lossy), t1(**lossy, ContrastBolusAgent="Gd"), settings=accept).requests
    assert len(wanted.warnings) == 2


def test_without_reference_the_study_waits_for_it() -> None:
    verdict = assess(t2())
    assert (verdict.outcome, verdict.missing, verdict.code) == ("waiting", "reference", "E_NO_REFERENCE")
    assert verdict.targets[0].reference is None


def test_a_reference_that_does_not_fit_leaves_the_study_waiting_and_says_why() -> None:
    verdict = assess(t2(), t1(FrameOfReferenceUID="1.2.3"))
    assert (verdict.outcome, verdict.code) == ("waiting", "E_NO_REFERENCE")
    assert "series 5: The two series do not share a frame of reference" in verdict.sentence


def test_a_refused_reference_is_named() -> None:
    verdict = assess(t2(), t1(slices=2))
    assert "series 5 is T1, but cannot be used: The stack has only 2 of at least 3 slices" in verdict.sentence


def test_without_target_the_study_waits_for_it() -> None:
    verdict = assess(t1(), t2(slices=2))
    assert (verdict.outcome, verdict.missing, verdict.code) == ("waiting", "target", "E_NO_TARGET")
    assert "series 3 is T2, but cannot be used: The stack has only 2 of at least 3 slices" in verdict.sentence


def test_nothing_usable_is_refused_with_the_code_all_share_or_with_each_reason() -> None:
    assert assess(t2(Modality="CT"), t1(Modality="CT")).code == "E_NOT_MR"
    verdict = assess(t2(Modality="CT"), t1(BurnedInAnnotation="YES"))
    assert (verdict.outcome, verdict.code) == ("refused", "E_NOTHING_USABLE")
    assert "series 3: These are not MR images" in verdict.sentence
    assert "series 5: Text is burned" in verdict.sentence


def test_the_latest_of_equal_references_wins_and_the_verdict_says_so() -> None:
    verdict = assess(t2(), t1(5, AcquisitionTime="120000"), t1(6, AcquisitionTime="110000"))
    (wanted,) = verdict.requests
    assert wanted.reference.series_uid.endswith(".5")
    assert verdict.targets[0].reasons == (
        "series 5 is preferred to series 6: both have 110 points, and it was acquired later.",
    )


def test_an_incomplete_later_repeat_does_not_win() -> None:
    repeat = t1(6)
    del repeat[2]
    (wanted,) = assess(t2(), t1(5), repeat).requests
    assert wanted.reference.series_uid.endswith(".5")


GRADIENT = {"ScanningSequence": "GR", "SequenceVariant": "SP", "RepetitionTime": 20, "EchoTime": 4}

BETTER: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("contrast agent", {}, {"ContrastBolusAgent": "Gd"}),
    ("contrast agent", {"SeriesDescription": "t1 tra"}, {"SeriesDescription": "t1_tra_KM"}),
    ("contrast agent", {"SeriesDescription": "t1 pre gd"}, {"SeriesDescription": "T1 +C"}),
    ("acquired pixel size", {}, {"matrix": (200, 200), "spacing": (1.152, 1.152)}),
    ("acquired pixel size", {}, {"AcquisitionMatrix": [0, 176, 176, 0]}),  # stored as fine as the other
    ("coverage", {}, {"matrix": (256, 244), "centre": (1, 0, 0)}),
    ("plane distance", {}, {"centre": (0, 0, 1.5)}),
    ("as measured", {}, {"ImageType": ["DERIVED", "PRIMARY", "M", "ND"]}),
    ("distortion correction", {}, {"ImageType": ["ORIGINAL", "PRIMARY", "M", "DIS2D"]}),
    ("contrast certainty", {"FlipAngle": 30, **GRADIENT}, GRADIENT),
]


@pytest.mark.parametrize(("merit", "good", "worse"), BETTER, ids=[merit for merit, *_ in BETTER])
def test_the_better_reference_wins_over_the_later(merit: str, good: dict[str, Any], worse: dict[str, Any]) -> None:
    verdict = assess(t2(), t1(5, **good), t1(6, **worse))
    assert verdict.requests[0].reference.series_uid.endswith(".5")
    assert verdict.targets[0].reasons[0].endswith(f"most of the difference for {merit}.")
    better, other = (next(p.score for p in verdict.pairs if p.reference == f"series {n}") for n in (5, 6))
    assert [term.name for term in better if term.points != other[better.index(term)].points] == [merit]


def test_a_site_may_prefer_the_agent_or_leave_a_term_out() -> None:
    studied = t2(), t1(5), t1(6, ContrastBolusAgent="Gd", AcquisitionTime="090000")
    for configured, chosen in (({}, ".5"), ({"pairing": {"contrast_agent": "prefer"}}, ".6")):
        verdict = assess(*studied, settings=MatchSettings.model_validate(configured))
        assert verdict.requests[0].reference.series_uid.endswith(chosen)
    ignored = MatchSettings.model_validate({"score": {"contrast_agent": 0}})
    assert "both have" in assess(*studied, settings=ignored).targets[0].reasons[0]


def test_knee_pairs_are_a_matter_of_configuration() -> None:
    settings = MatchSettings(targets=["PD-FS"], references=["PD"])
    fine = series(5, PD, matrix=(256, 256), spacing=(0.9, 0.9))
    (wanted,) = assess(series(3, PD, ScanOptions="FS"), fine, settings=settings).requests
    assert (wanted.target.contrast, wanted.reference.contrast) == ("PD-FS", "PD")


def test_a_label_means_exactly_itself() -> None:
    assert assess(t2(ScanOptions="FS"), t1()).outcome == "waiting"


def test_a_pair_the_model_was_not_trained_for() -> None:
    other = ModelFacts("knee", "1", 4, (("PD-FS", "PD"),))
    verdict = assess(t2(), model=other)
    assert (verdict.outcome, verdict.code) == ("refused", "E_NOT_TRAINED_FOR")
    mixed = ModelFacts("brain", "1", 4, (("T2", "T1-FS"),))
    settings = MatchSettings(references=["T1", "T1-FS"])
    verdict = assess(t2(), t1(), settings=settings, model=mixed)
    assert verdict.code == "E_NO_REFERENCE"
    assert "not trained for T2 guided by T1" in verdict.sentence


def test_the_verdict_is_json_and_reads_as_lines() -> None:
    verdict = assess(t2(), t1(), t2(9, Modality="OT"))
    kept = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert (kept["schema"], kept["requests"][0]["target"]["contrast"]) == (2, "T2")
    again = StudyVerdict.model_validate(kept)
    assert again == verdict
    text = lines(again)
    assert text == lines(verdict)
    assert text[0] == f"Study {verdict.study_uid}: paired"
    assert any(line.startswith("series 3: T2, target, 5 slices") for line in text)
    assert any("E_NOT_MR" in line for line in text)
    assert "series 3 guided by series 5: fits" in text
    assert not any(line.lstrip().startswith("ok") for line in lines(again, passed=False))


def test_the_lines_say_what_was_decided_then_why_then_what_one_could_do() -> None:
    verdict = assess(t2(), t1(orientation=SAGITTAL))
    text = lines(verdict, afterwards=["match: waiting-pair"])
    headings = ["decided:", "why:", "what you could do:", "series found:", "history:"]
    assert [line for line in text if line in headings] == headings
    advice = text.index("what you could do:")
    assert "E_NO_REFERENCE" in text[text.index("decided:") + 1]
    assert "tilted against each other by 90.0 degrees" in text[text.index("why:") + 1]
    assert text[advice + 1].strip() == "Plan the reference in the planes of the target, or acquire it in 3-D."
    series, pair = (text.index(line) for line in text if line.startswith(("series 3: T2", "series 3 guided by")))
    assert advice < series < pair
    assert text[pair + 1].lstrip().startswith("FAIL  angle"), "what failed comes first"


def test_what_was_chosen_comes_with_its_warnings() -> None:
    verdict = assess(t2(), t1(matrix=(180, 180), spacing=(1.3, 1.3)))
    asked = sum(len(part.predicates) for part in (*verdict.stacks, *verdict.pairs))
    text = "\n".join(lines(verdict))
    assert f"all {asked} questions passed, 1 of them with a warning:\n    WARN  W_REFERENCE_COARSE" in text
    assert "For finer detail acquire the reference with a finer matrix." in text


@pytest.mark.parametrize("width", [40, 72, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    verdict = assess(t2(), t1(orientation=SAGITTAL), t2(9, Modality="OT"))
    wide = lines(verdict)
    narrow = lines(verdict, width=width)
    assert [w for line in narrow for w in line.split()] == [w for line in wide for w in line.split()]
    assert all(len(line) <= width or len(max(line.split(), key=len)) > width - 10 for line in narrow)


def test_no_contrast_may_be_both_target_and_reference() -> None:
    with pytest.raises(ValueError, match="T1 cannot be both"):
        MatchSettings(targets=["T1"])
    with pytest.raises(ValueError, match="Input should be"):
        MatchSettings.model_validate({"targets": ["T3"]})


def test_the_written_defaults_are_the_defaults() -> None:
    for path in (ROOT / "config" / "match-section.toml.draft", ROOT / "config" / "node.toml"):
        if path.is_file():
            section = tomllib.loads(path.read_text()).get("match", {})
            assert MatchSettings.model_validate(section) == MatchSettings()


FOLDERS: dict[str, tuple[str, str, list[tuple[str | None, str, int]]]] = {
    "GE_HDxt_deidentified_T1_sag": ("E_NO_TARGET", "target", [("T1", "reference", 10)]),
    "GE_Signa_T1_MPRAGE": ("E_NO_TARGET", "target", [("T1", "reference", 12)]),
    "Siemens_Prisma_PD_T2_dualecho": (
        "E_NO_REFERENCE",
        "reference",
        [("PD", "neither", 35), ("T2", "target", 35)],
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_vendor_files(name: str, shared_data: Path) -> None:
    folder = shared_data / "vendor_dicom" / name
    code, missing, stacks = FOLDERS[name]
    verdict = assess([dcmread(path, stop_before_pixels=True) for path in sorted(folder.glob("*.dcm"))])
    assert (verdict.outcome, verdict.code, verdict.missing) == ("waiting", code, missing)
    assert [(s.contrast, s.role, s.slices) for s in verdict.stacks] == stacks
    assert verdict.sentence
    assert lines(verdict)
