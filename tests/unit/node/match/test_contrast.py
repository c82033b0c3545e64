"""The contrast rules, one row each, and the timings of real protocols."""

from typing import Any

import pytest

from node.config.match import ContrastRules
from node.match.contrast import classify
from node.match.stacks import stacks_of
from node.verdicts import PredicateOutcome
from tests.dicom import enhanced
from tests.unit.node.match.builder import FLAIR, PD, T1, T2, series

SE, GR, IR = {"ScanningSequence": "SE"}, {"ScanningSequence": "GR"}, {"ScanningSequence": ["SE", "IR"]}


def times(tr: float | None, te: float | None, ti: float | None = None) -> dict[str, Any]:
    return {"RepetitionTime": tr, "EchoTime": te, "InversionTime": ti}


TABLE: list[tuple[str | None, dict[str, Any]]] = [
    ("T1", T1),
    ("T2", T2),
    ("PD", PD),
    ("T2-FLAIR", FLAIR),
    # The scanner's own word goes first, unless it says nothing.
    ("T2", {**T1, "AcquisitionContrast": "T2"}),
    ("PD", {**T1, "AcquisitionContrast": "PROTON_DENSITY"}),
    ("STIR", {**T1, "AcquisitionContrast": "STIR"}),
    ("T1", {**T1, "AcquisitionContrast": "UNKNOWN"}),
    ("T1", {**T1, "AcquisitionContrast": "MIXED"}),
    (None, {**T1, "AcquisitionContrast": "T2_STAR"}),
    (None, {**T1, "AcquisitionContrast": "PERFUSION"}),
    ("T2-FLAIR", {**FLAIR, "AcquisitionContrast": "FLUID_ATTENUATED"}),
    ("T1", {**IR, **times(2000, 9, 860), "AcquisitionContrast": "FLUID_ATTENUATED"}),  # a T1 FLAIR
    # inversion
    ("STIR", {**IR, **times(4000, 60, 150)}),
    ("T1", {**GR, **times(7, 3, 150)}),
    ("T1", {"ScanningSequence": ["RM", "IR"], "SequenceVariant": "NONE", **times(2217.66, 3.172, 1000)}),  # GE MPRAGE
    ("T1", {"ScanningSequence": "GR", "SequenceVariant": ["SS", "SP", "SK"], **times(6.964, 2.832, 400)}),  # GE IR-SPGR
    ("T1", {"ScanningSequence": ["GR", "IR"], **times(2300, 2.98, 900)}),  # Siemens MPRAGE
    (None, {**IR, **times(4000, 60, 800)}),
    (None, {**IR, **times(4000, 100, None)}),
    # gradient echo
    ("T1", {**GR, **times(200, 4.6)}),
    (None, {**GR, **times(700, 20)}),  # T2*
    (None, {**GR, **times(28, 20)}),  # susceptibility
    (None, {**GR, **times(2000, 4)}),
    ("T1", {"ScanningSequence": "GR", "SequenceVariant": ["SK", "SP", "OSP"], **times(5, 2)}),  # FLASH
    (None, {"ScanningSequence": "GR", "SequenceVariant": ["SK", "SS", "OSP"], **times(5, 2)}),  # TrueFISP
    # the flip angle against the Ernst angle (12.8 degrees at 25 ms, 7.2 at 8 ms, 53 at 500 ms)
    (None, {**GR, **times(25, 4), "FlipAngle": 4}),
    (None, {**GR, **times(23.7, 4), "FlipAngle": 6}),  # multi-parameter mapping, weighted by proton density
    ("T1", {**GR, **times(18.7, 4), "FlipAngle": 20}),
    ("T1", {**GR, **times(8, 3), "FlipAngle": 12}),
    ("T1", {**GR, **times(4.5, 2), "FlipAngle": 9}),  # VIBE
    (None, {**GR, **times(500, 8), "FlipAngle": 20}),
    (None, {**GR, **times(25, 4), "FlipAngle": 4, "AcquisitionContrast": "T1"}),  # physics decides
    ("T1", {**GR, "SequenceVariant": ["MP"], **times(9.8, 4.6), "FlipAngle": 4}),  # prepared
    # no T1, although the times are
    (None, {"ScanningSequence": ["GR", "IR"], **times(5000, 2.98, 2500)}),  # second image of MP2RAGE
    (None, {**T1, "SequenceVariant": "MTC"}),
    (None, {**T1, "ScanOptions": "MT"}),
    (None, {**GR, **times(22, 4), "ScanOptions": ["FC", "SP"]}),
    (None, {**GR, **times(488, 4.9), "SequenceName": "*fm2d2r"}),
    # Philips says SS of every gradient echo
    ("T1", {**GR, "SequenceVariant": "SS", **times(256.4, 3.6), "FlipAngle": 80}),
    (
        "T1",
        {
            **GR,
            "SequenceVariant": "SS",
            **times(25, 3.6),
            "FlipAngle": 30,
            "ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"],
        },
    ),
    (None, {**GR, "SequenceVariant": "SS", **times(25, 3.6), "FlipAngle": 30}),
    # single shot: TR is the time between slices
    ("T2", {**SE, **times(1000, 92), "EchoTrainLength": 205, "AcquisitionMatrix": [0, 256, 256, 0]}),
    ("T2", {**SE, **times(1000, 92), "SequenceName": "*h2d1_128"}),
    (None, {**SE, **times(1000, 92), "EchoTrainLength": 20, "AcquisitionMatrix": [0, 256, 256, 0]}),
    (
        None,
        {
            **SE,
            **times(1000, 92),
            "EchoTrainLength": 205,
            "MRAcquisitionType": "3D",
            "AcquisitionMatrix": [0, 256, 256, 0],
        },
    ),
    # the images of a Dixon series
    ("T1-FS", {**T1, "ImageType": ["DERIVED", "PRIMARY", "DIXON", "WATER"]}),
    ("T2-FS", {**T2, "ImageType": ["DERIVED", "PRIMARY", "W", "W", "DERIVED"]}),  # Philips
    ("T2", {**T2, "ImageType": ["DERIVED", "PRIMARY", "DIXON", "IN_PHASE"]}),
    # spin echo, at the edges
    ("T2", {**SE, **times(1800, 70)}),
    (None, {**SE, **times(1800, 69)}),
    (None, {**SE, **times(1799, 70)}),
    ("PD", {**SE, **times(1800, 40)}),
    (None, {**SE, **times(1800, 41)}),
    ("T1", {**SE, **times(1200, 35)}),
    (None, {**SE, **times(1201, 35)}),
    (None, {**SE, **times(1200, 36)}),
    (None, {**SE, **times(None, 12)}),
    (None, {**SE, **times(500, None)}),
    # fat suppression
    ("T2-FS", {**T2, "ScanOptions": ["PFP", "FS"]}),
    ("PD-FS", {**PD, "ScanOptions": "FAT_SAT"}),
    ("T1-FS", {**T1, "SpectrallySelectedSuppression": "FAT"}),
    ("T2-FLAIR", {**FLAIR, "ScanOptions": "FS"}),
    ("T2", {**T2, "ScanOptions": ["FSA_GEMS", "SAT1"]}),
    ("T2", {**T2, "SpectrallySelectedSuppression": "WATER"}),
    # the description never decides
    ("T2", {**T2, "SeriesDescription": "t1 mprage fs"}),
]


@pytest.mark.parametrize(("label", "header"), TABLE)
def test_contrast(label: str | None, header: dict[str, Any]) -> None:
    (stack,) = stacks_of(series(1, header))
    contrast = classify(stack.physics, ContrastRules())
    assert contrast.label == label
    predicate = contrast.predicate
    assert predicate.sentence and predicate.value
    assert (predicate.outcome is PredicateOutcome.FAIL) == (label is None)


def test_enhanced_attributes_decide_too() -> None:
    (stack,) = stacks_of([enhanced(series(1, PD))])
    assert classify(stack.physics, ContrastRules()).label == "PD"


def test_the_edges_are_settings() -> None:
    (stack,) = stacks_of(series(1, {**SE, **times(1500, 60)}))
    assert classify(stack.physics, ContrastRules()).label is None
    assert classify(stack.physics, ContrastRules(long_min_tr_ms=1500, t2_min_te_ms=60)).label == "T2"
