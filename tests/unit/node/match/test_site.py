"""Rules of the site: what they ask of headers, what follows, and what is refused when the node starts."""

from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from node.config.loading import load_settings
from node.config.match import MatchSettings
from node.errors import ConfigError
from node.match.assess import assess_study
from node.verdicts import PredicateOutcome, StudyVerdict
from tests.unit.node.match.builder import MODEL, t1, t2

ROOT = Path(__file__).parents[4]
VETO = {"veto": "Not here."}


def settings_with(*rules: dict[str, Any]) -> MatchSettings:
    return MatchSettings.model_validate({"rules": [{"name": f"rule {i}", **rule} for i, rule in enumerate(rules)]})


def assess(headers: list[Dataset], *rules: dict[str, Any]) -> StudyVerdict:
    return assess_study(headers, settings_with(*rules), MODEL)


def private(headers: list[Dataset], value: Any, vr: str = "LO") -> list[Dataset]:
    for header in headers:
        header.private_block(0x0019, "SITE", create=True).add_new(0x30, vr, value)
    return headers


HOLDS: list[dict[str, Any]] = [
    {"tag": "StationName", "is": "mr1"},
    {"tag": "(0008,1010)", "is": "MR1"},
    {"tag": "StationName", "is_not": "MR2"},
    {"tag": "InstitutionName", "is_not": "General"},  # there is none
    {"tag": "StationName", "contains": "r1"},
    {"tag": "StationName", "matches": "^mr[0-9]$"},
    {"tag": "StationName", "exists": True},
    {"tag": "InstitutionName", "exists": False},
    {"tag": "ReferencedImageSequence", "exists": False},
    {"tag": "RequestAttributesSequence", "exists": False},  # there, but empty
    {"tag": "DerivationCodeSequence", "exists": True},
    {"tag": "EchoTime", "is": 100},
    {"tag": "EchoTime", "greater": 99, "less": 101},
    {"tag": "ImageType", "is": "ND"},
    {"tag": "(0019,0030)", "creator": "SITE", "contains": "trial"},
    {"tag": "(0019,1030)", "is": "a trial"},
    {"tag": "(0019,1030)", "creator": "SITE", "exists": True},
]

HOLDS_NOT: list[dict[str, Any]] = [
    {"tag": "StationName", "is": "MR"},
    {"tag": "StationName", "is_not": "mr1"},
    {"tag": "InstitutionName", "is": ""},
    {"tag": "InstitutionName", "contains": "a"},
    {"tag": "StationName", "greater": 1},
    {"tag": "EchoTime", "less": 100},
    {"tag": "EchoTime", "greater": 100},
    {"tag": "EchoTime", "is": 10},
    {"tag": "(0019,0030)", "creator": "OTHER", "exists": True},
    {"tag": "StationName", "is": "MR1", "matches": "2"},
]


@pytest.mark.parametrize("condition", [*HOLDS, *HOLDS_NOT], ids=str)
def test_a_condition(condition: dict[str, Any]) -> None:
    headers = t2(StationName="MR1", RequestAttributesSequence=[], DerivationCodeSequence=[Dataset()])
    verdict = assess(private(headers, "a trial"), {"when": [condition], "then": VETO})
    fired = [p for p in verdict.stacks[0].predicates if p.code == "E_SITE_RULE"]
    assert bool(fired) == (condition in HOLDS)
    if fired:
        assert (fired[0].value, fired[0].sentence) == ("rule 0", 'Rule "rule 0": Not here.')
        assert verdict.stacks[0].role == "neither"


def test_every_condition_must_hold() -> None:
    both = [{"tag": "StationName", "is": "MR1"}, {"tag": "EchoTime", "greater": 200}]
    assert assess(t2(StationName="MR1"), {"when": both, "then": VETO}).stacks[0].role == "target"


def test_private_values_of_an_unknown_vr_are_read_as_text() -> None:
    rule = {"when": [{"tag": "(0019,0030)", "creator": "SITE", "is": "a trial"}], "then": VETO}
    assert assess(private(t2(), b"a trial ", "UN"), rule).stacks[0].role == "neither"


def test_a_contrast_the_headers_do_not_tell() -> None:
    rule = {"when": [{"tag": "StationName", "is": "MR1"}], "then": {"contrast": "T1"}}
    headers = [*t2(), *t1(EchoTime=None, StationName="MR1")]
    assert assess(headers).outcome == "waiting"
    verdict = assess(headers, rule)
    assert verdict.outcome == "paired"
    warned = [p for p in verdict.stacks[1].predicates if p.outcome is PredicateOutcome.WARN]
    assert [(p.code, p.value) for p in warned] == [("W_SITE_RULE", "rule 0")]
    assert any('"rule 0"' in sentence for sentence in verdict.requests[0].warnings)


def test_a_part_the_contrast_does_not_tell() -> None:
    rule = {"when": [{"tag": "StationName", "is": "MR1"}], "then": {"contrast": "PD-FS", "role": "target"}}
    guide = {"when": [{"tag": "StationName", "is": "MR2"}], "then": {"contrast": "PD", "role": "reference"}}
    verdict = assess([*t2(StationName="MR1"), *t1(StationName="MR2")], rule, guide)
    assert [s.role for s in verdict.stacks] == ["neither", "reference"]  # no reference configured for PD-FS: T1
    settings = MatchSettings.model_validate(
        {"references": ["PD"], "rules": [{"name": "a", **rule}, {"name": "b", **guide}]}
    )
    (wanted,) = assess_study([*t2(StationName="MR1"), *t1(StationName="MR2")], settings, MODEL).requests
    assert (wanted.target.contrast, wanted.reference.contrast) == ("PD-FS", "PD")


def test_a_veto_settles_which_of_two_time_points_is_taken() -> None:
    headers = [*t2(TemporalPositionIdentifier=1), *t2(TemporalPositionIdentifier=2, first=5), *t1()]
    assert assess(headers).code == "E_NO_TARGET"
    rule = {"when": [{"tag": "TemporalPositionIdentifier", "greater": 1}], "then": VETO}
    (wanted,) = assess(headers, rule).requests
    assert wanted.target.sop_uids == tuple(header.SOPInstanceUID for header in headers[:5])


def test_an_override_lifts_no_refusal() -> None:
    rule = {"when": [{"tag": "Modality", "is": "MR"}], "then": {"contrast": "T2", "role": "target"}}
    assert assess(t2(BurnedInAnnotation="YES"), rule).stacks[0].role == "neither"


def test_one_slice_is_enough_to_veto_and_all_are_needed_to_override() -> None:
    headers = t2()
    headers[2].StationName = "MR1"
    when = [{"tag": "StationName", "is": "MR1"}]
    assert assess(headers, {"when": when, "then": VETO}).stacks[0].role == "neither"
    (stack,) = assess(headers, {"when": when, "then": {"contrast": "T1"}}).stacks
    assert (stack.contrast, stack.role) == ("T2", "target")


def test_rules_that_disagree_refuse() -> None:
    one = {"when": [{"tag": "StationName", "is": "MR1"}], "then": {"contrast": "T1"}}
    other = {"when": [{"tag": "EchoTime", "less": 200}], "then": {"contrast": "PD"}}
    (stack,) = assess(t2(StationName="MR1"), one, other).stacks
    (predicate,) = (p for p in stack.predicates if p.code == "E_SITE_RULES_DISAGREE")
    assert '"rule 0", "rule 1"' in predicate.sentence
    assert stack.role == "neither"


def test_values_of_headers_stay_out_of_verdicts() -> None:
    rule = {"when": [{"tag": "PatientID", "contains": "47"}], "then": VETO}
    assert "4711" not in str(assess(t2(), rule).to_json())


WRONG: dict[str, tuple[str, str]] = {
    "unknown keyword": ('when = [{ tag = "StatinName", is = "x" }]', 'no attribute is called "StatinName"'),
    "pixels": ('when = [{ tag = "PixelData", exists = true }]', "pixels are not read"),
    "nothing asked": ('when = [{ tag = "StationName" }]', "no comparison is given"),
    "bad expression": ('when = [{ tag = "StationName", matches = "(" }]', "not a regular expression"),
    "a sequence's value": ('when = [{ tag = "ReferencedImageSequence", is = "x" }]', "is a sequence"),
    "a creator of a standard tag": ('when = [{ tag = "StationName", creator = "A", is = "x" }]', "have a creator"),
    "missing with a value": ('when = [{ tag = "EchoTime", exists = false, less = 3 }]', "has no value"),
    "missing and there": (
        'when = [{ tag = "EchoTime", exists = false }, { tag = "EchoTime", less = 3 }]',
        "cannot be missing and have a value",
    ),
    "two things": (
        'when = [{ tag = "StationName", is = "a" }, { tag = "(0008,1010)", is = "b" }]',
        "cannot be 2 things",
    ),
    "is and is not": ('when = [{ tag = "StationName", is = "a", is_not = "A" }]', "cannot be and not be"),
    "an empty range": ('when = [{ tag = "EchoTime", greater = 5, less = 5 }]', "cannot be greater than 5"),
    "veto with contrast": (
        'when = [{ tag = "Modality", is = "MR" }]\nthen = { veto = "x", contrast = "T1" }',
        "has no contrast",
    ),
    "nothing follows": ('when = [{ tag = "Modality", is = "MR" }]\nthen = {}', "then is empty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_rule_that_cannot_work_is_named_at_start(name: str, tmp_path: Path) -> None:
    text, message = WRONG[name]
    then = "" if "then" in text else "then = { veto = 'x' }"
    path = tmp_path / "node.toml"
    path.write_text(f"[[match.rules]]\nname = 'house rule'\n{text}\n{then}\n")
    with pytest.raises(ConfigError) as wrong:
        load_settings(path)
    assert "[match] rules #1" in str(wrong.value)
    assert 'rule "house rule"' in str(wrong.value)
    assert message in str(wrong.value)


@pytest.mark.parametrize(
    "text",
    [
        "tag = 'StationName', equals = 'x'",
        "tag = 'StationName', is = true",
        "tag = 'EchoTime', less = '5'",
        "tag = 'StationName', exists = 'maybe'",
    ],
)
def test_a_condition_is_typed(text: str, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f"[[match.rules]]\nname = 'r'\nwhen = [{{ {text} }}]\nthen = {{ veto = 'x' }}\n")
    with pytest.raises(ConfigError, match=r"\[match\] rules #1 when #1"):
        load_settings(path)


def test_rules_stand_beside_each_other() -> None:
    when = [{"tag": "StationName", "is": "MR1"}]
    twice = {"name": "same", "when": when, "then": VETO}
    with pytest.raises(ValueError, match='two rules are called "same"'):
        MatchSettings.model_validate({"rules": [twice, {**twice, "when": [{"tag": "Modality", "is": "MR"}]}]})
    with pytest.raises(ValueError, match='rules "same" and "other" have the same conditions'):
        MatchSettings.model_validate({"rules": [twice, {**twice, "name": "other", "then": {"contrast": "T1"}}]})


def test_the_example_in_the_written_configuration_works(tmp_path: Path) -> None:
    commented = (ROOT / "config" / "node.toml").read_text()
    start = commented.index("# [[match.rules]]")
    example = commented[start : commented.index("\n\n", start)]
    path = tmp_path / "node.toml"
    path.write_text("\n".join(line.removeprefix("#").removeprefix(" ") for line in example.splitlines()))
    rules = load_settings(path).match.rules
    assert [(r.then.veto is None, r.then.contrast) for r in rules] == [(False, None), (True, "T1")]
    headers = t2(StationName="MR1", SequenceName="*WIP_tse2d1_17")
    (stack,) = assess_study(headers, MatchSettings(rules=rules), MODEL).stacks
    assert "E_SITE_RULE" in {p.code for p in stack.predicates}
