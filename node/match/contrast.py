"""The contrast of a stack, from the physics of its acquisition. The first rule that holds decides."""

from collections.abc import Iterator
from dataclasses import dataclass

from node.config.match import ContrastRules
from node.config.site_rules import ContrastLabel
from node.match.images import Physics
from node.match.predicates import expect
from node.match.preparation import flip_ratio, inverted, not_t1, single_shot, spoiled
from node.verdicts import Predicate

# AcquisitionContrast (0008,9209), PS3.3 C.8.13.3.1.1: values that decide, and values that say nothing. The other values
# name contrasts without a label.
DECLARED: dict[str, ContrastLabel] = {
    "T1": "T1",
    "T2": "T2",
    "PROTON_DENSITY": "PD",
    "STIR": "STIR",
    "FLUID_ATTENUATED": "T2-FLAIR",
}
UNDECLARED = frozenset({"UNKNOWN", "MIXED"})

FAT_SATURATED: dict[ContrastLabel, ContrastLabel] = {"T1": "T1-FS", "T2": "T2-FS", "PD": "PD-FS"}


@dataclass(frozen=True)
class Contrast:
    """The label, None when unknown, and the predicate that says which rule gave it."""

    label: ContrastLabel | None
    predicate: Predicate
    certainty: float = 1
    """0 to 1: less than 1 where the header leaves out what would confirm the contrast."""


@dataclass(frozen=True)
class _Rule:
    label: ContrastLabel
    holds: bool
    condition: str
    reason: str


def classify(physics: Physics, rules: ContrastRules) -> Contrast:
    """The contrast of a stack; "-FS" is added to T1, T2 and PD where fat was suppressed."""
    declared = physics.acquisition_contrast
    found = next((rule for rule in _rules(physics, rules) if rule.holds), None)
    if found is None:
        if declared and declared not in UNDECLARED and declared not in DECLARED:
            code, sentence = (
                "E_CONTRAST_UNSUPPORTED",
                f"The scanner names the contrast {declared}, which the node does not process.",
            )
        else:
            code, sentence = (
                "E_CONTRAST_UNKNOWN",
                f"The timing ({_timing(physics)}) fits no contrast that the node knows.",
            )
        return Contrast(None, expect("contrast", False, "", code, sentence, value=declared or _timing(physics)))
    other = not_t1(physics, rules) if found.label == "T1" else None
    if other is not None:
        sentence = f"This is no T1, although its times are those of one ({_timing(physics)}): {other}."
        return Contrast(None, expect("contrast", False, "", "E_CONTRAST_UNSUPPORTED", sentence, value=_timing(physics)))
    fat = _fat_suppression(physics, rules)
    label = FAT_SATURATED.get(found.label, found.label) if fat else found.label
    sentence = f"{label}: {found.reason}{f', fat suppressed ({fat})' if fat else ''}."
    predicate = expect(
        "contrast",
        found.label not in {"T2", "T2-FLAIR"} or not single_shot(physics, rules),
        sentence,
        "W_SINGLE_SHOT",
        f"{sentence} The images are single-shot (HASTE, SSFSE): blurred along the phase encoding, which the model was not "
        "trained for.",
        value=_timing(physics),
        threshold=found.condition,
    )
    return Contrast(label, predicate, _certainty(physics))


def _certainty(p: Physics) -> float:
    if p.acquisition_contrast in DECLARED:
        return 1
    unconfirmed = (inverted(p) and p.ti_ms is None) or (p.gradient_echo and not inverted(p) and flip_ratio(p) is None)
    return 0.5 if unconfirmed else 1


def _rules(p: Physics, r: ContrastRules) -> Iterator[_Rule]:
    te, tr, ti = p.te_ms, p.tr_ms, p.ti_ms
    declared = p.acquisition_contrast
    # A T1 FLAIR attenuates fluid too: its short echo time tells it from a T2-FLAIR, so timing decides.
    t1_flair = declared == "FLUID_ATTENUATED" and not _at_least(te, r.flair_min_te_ms)
    if declared and declared not in UNDECLARED and not t1_flair:
        if declared in DECLARED:
            yield _Rule(DECLARED[declared], True, f"AcquisitionContrast {declared}", "the scanner declares it")
        return
    if inverted(p):
        yield _Rule(
            "T2-FLAIR",
            _at_least(ti, r.flair_min_ti_ms) and _at_least(te, r.flair_min_te_ms),
            f"TI >= {r.flair_min_ti_ms:g} ms, TE >= {r.flair_min_te_ms:g} ms",
            "inversion recovery that darkens fluid, with a long echo time",
        )
        yield _Rule(
            "STIR",
            _at_least(ti, r.stir_min_ti_ms) and _at_most(ti, r.stir_max_ti_ms) and not p.gradient_echo,
            f"TI {r.stir_min_ti_ms:g} to {r.stir_max_ti_ms:g} ms, no gradient echo",
            "inversion recovery that darkens fat",
        )
        yield _Rule(
            "T1",
            te is not None and te < r.inversion_t1_max_te_ms,
            f"inversion, TE < {r.inversion_t1_max_te_ms:g} ms",
            "inversion-prepared, with a short echo time",
        )
        return
    if p.gradient_echo:
        yield _Rule(
            "T1",
            _at_most(te, r.gradient_t1_max_te_ms) and _at_most(tr, r.gradient_t1_max_tr_ms) and spoiled(p),
            f"spoiled gradient echo, TE <= {r.gradient_t1_max_te_ms:g} ms, TR <= {r.gradient_t1_max_tr_ms:g} ms",
            "spoiled gradient echo with short times",
        )
        return
    yield _Rule(
        "T2",
        single_shot(p, r) and _at_least(te, r.t2_min_te_ms),
        f"single shot, TE >= {r.t2_min_te_ms:g} ms",
        "single shot with a long echo time",
    )
    long_tr = _at_least(tr, r.long_min_tr_ms)
    yield _Rule(
        "T2",
        long_tr and _at_least(te, r.t2_min_te_ms),
        f"TR >= {r.long_min_tr_ms:g} ms, TE >= {r.t2_min_te_ms:g} ms",
        "long repetition and long echo time",
    )
    yield _Rule(
        "PD",
        long_tr and _at_most(te, r.pd_max_te_ms),
        f"TR >= {r.long_min_tr_ms:g} ms, TE <= {r.pd_max_te_ms:g} ms",
        "long repetition and short echo time",
    )
    yield _Rule(
        "T1",
        _at_most(tr, r.t1_max_tr_ms) and _at_most(te, r.t1_max_te_ms),
        f"TR <= {r.t1_max_tr_ms:g} ms, TE <= {r.t1_max_te_ms:g} ms",
        "short repetition and short echo time",
    )


def _fat_suppression(physics: Physics, rules: ContrastRules) -> str | None:
    """The value of the header by which fat was suppressed; None when it was not."""
    if (physics.fat_suppression or "").startswith("FAT"):  # FAT, FAT_AND_WATER of (0018,9025)
        return physics.fat_suppression
    if physics.water_alone:
        return "water of a Dixon series"
    return next((option for option in physics.scan_options if option in rules.fat_suppression_options), None)


def _timing(p: Physics) -> str:
    times = [f"{name} {ms:g} ms" for name, ms in (("TR", p.tr_ms), ("TE", p.te_ms), ("TI", p.ti_ms)) if ms]
    flip = [f"flip angle {p.flip_deg:g} degrees"] if p.gradient_echo and p.flip_deg else []
    sequence = "\\".join(p.scanning_sequence) or ("GR" if p.gradient_echo else "sequence unknown")
    return ", ".join([sequence, *times, *flip])


def _at_least(value: float | None, limit: float) -> bool:
    return value is not None and value >= limit


def _at_most(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit
