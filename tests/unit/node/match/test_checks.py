"""Every line of the refusal list: one header changed, one code said."""

from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import JPEGLSNearLossless, SecondaryCaptureImageStorage

from node.config.match import MatchSettings, StackLimits, TargetLimits
from node.match.stack_roles import AssessedStack, assess_stacks
from node.match.stacks import stacks_of
from node.verdicts import PredicateOutcome
from tests.dicom import enhanced
from tests.unit.node.match.builder import MODEL, SAGITTAL, series, t1, t2


def judge(headers: list[Dataset], settings: MatchSettings | None = None) -> tuple[AssessedStack, ...]:
    return assess_stacks(stacks_of(headers), settings or MatchSettings(), MODEL)


def codes(headers: list[Dataset], settings: MatchSettings | None = None) -> set[str]:
    return {p.code for verdict in judge(headers, settings) for p in verdict.predicates if p.code}


def test_a_plain_t2_is_a_target_without_a_word_against_it() -> None:
    (verdict,) = judge(t2())
    assert (verdict.role, verdict.contrast) == ("target", "T2")
    assert {p.outcome for p in verdict.predicates} == {PredicateOutcome.PASS}
    assert all(p.sentence and p.code is None for p in verdict.predicates)


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("E_NOT_MR", {"Modality": "CT"}),
    ("E_NOT_MR", {"SOPClassUID": SecondaryCaptureImageStorage}),
    ("E_NOT_MR", {"SOPClassUID": None}),
    ("E_MULTIFRAME", {"NumberOfFrames": 5}),
    ("E_ATTRIBUTES_MISSING", {"Rows": None}),
    ("E_ATTRIBUTES_MISSING", {"Columns": 0}),
    ("E_ATTRIBUTES_MISSING", {"BitsAllocated": None}),
    ("E_ATTRIBUTES_MISSING", {"PhotometricInterpretation": None}),
    ("E_ATTRIBUTES_MISSING", {"PixelSpacing": None}),
    ("E_ATTRIBUTES_MISSING", {"PixelSpacing": [1.0, 0.0]}),
    ("E_ATTRIBUTES_MISSING", {"ImagePositionPatient": None}),
    ("E_ATTRIBUTES_MISSING", {"ImagePositionPatient": [0.0, 1e300, 0.0]}),
    ("E_ATTRIBUTES_MISSING", {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}),
    ("E_ATTRIBUTES_MISSING", {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}),
    ("E_ATTRIBUTES_MISSING", {"SOPInstanceUID": None}),
    ("E_ATTRIBUTES_MISSING", {"SeriesInstanceUID": "../../etc/passwd"}),
    ("E_COLOUR", {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}),
    ("E_COLOUR", {"PhotometricInterpretation": "PALETTE COLOR"}),
    ("E_PIXEL_FORMAT", {"BitsAllocated": 32}),
    ("E_MATRIX_ABSURD", {"Rows": 65535, "Columns": 65535}),
    ("E_OWN_OUTPUT", {"ImageType": ["DERIVED", "SECONDARY", "OTHER", "AI", "SUPERRES"]}),
    ("E_OWN_OUTPUT", {"Manufacturer": "DiffMSR node project"}),
    ("E_OWN_OUTPUT", {"Modality": "OT", "Manufacturer": "DiffMSR node project"}),
    ("E_AI_OUTPUT", {"SyntheticData": "YES"}),
    ("E_AI_OUTPUT", {"ImageType": ["DERIVED", "SECONDARY", "AI"]}),
    ("E_MOSAIC", {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}),
    ("E_NOT_MAGNITUDE", {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}),
    ("E_NOT_MAGNITUDE", {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "SE"]}),
    ("E_NOT_MAGNITUDE", {"ImageType": ["ORIGINAL", "PRIMARY", "R_IR", "R", "IR"]}),
    ("E_NOT_MAGNITUDE", {"ImageType": ["DERIVED", "PRIMARY", "IMAGINARY"]}),
    ("E_NOT_MAGNITUDE", {"ComplexImageComponent": "PHASE"}),
    ("E_COMPUTED_IMAGE", {"ImageType": ["DERIVED", "PRIMARY", "MPR", "CSA MPR"]}),
    ("E_COMPUTED_IMAGE", {"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE", "COLLAPSE"]}),
    ("E_COMPUTED_IMAGE", {"ImageType": ["DERIVED", "SECONDARY", "MIN IP", "MNIP"]}),
    ("E_COMPUTED_IMAGE", {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]}),
    ("E_COMPUTED_IMAGE", {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "FA"]}),
    ("E_COMPUTED_IMAGE", {"ImageType": ["DERIVED", "PRIMARY", "T2 MAP"]}),
    ("E_COMPUTED_IMAGE", {"ImageType": ["DERIVED", "PRIMARY", "SUBTRACTION"]}),
    ("E_DIFFUSION", {"DiffusionBValue": 1000.0}),
    ("E_DIFFUSION", {"DiffusionDirectionality": "DIRECTIONAL"}),
    ("E_ECHO_PLANAR", {"ScanningSequence": ["EP", "SE"]}),
    ("E_ANGIOGRAPHY", {"AngioFlag": "Y"}),
    ("E_ANGIOGRAPHY", {"SequenceVariant": ["SP", "TOF"]}),
    ("E_LOSSY", {"LossyImageCompression": "01"}),
    ("E_BURNED_IN", {"BurnedInAnnotation": "YES"}),
    ("E_LOCALIZER", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
    ("E_DESCRIPTION_VETO", {"SeriesDescription": "3-plane_Localizer"}),
    ("E_DESCRIPTION_VETO", {"SeriesDescription": "ax DWI b0"}),
    ("E_DESCRIPTION_VETO", {"SeriesDescription": "AI SR x4: t2 tra"}),
    ("E_TOO_FEW_SLICES", {"slices": 2}),
    ("E_TOO_FEW_SLICES", {"slices": 1}),
    ("E_DUPLICATE_SLICES", {"step": 0.0, "ImagePositionPatient": [0, 0, 0]}),
    ("E_MISSING_SLICES", {"SpacingBetweenSlices": 2.5, "thickness": 2.5}),
    ("E_MATRIX_TOO_SMALL", {"matrix": (12, 12)}),
    ("E_MATRIX_TOO_LARGE", {"matrix": (1200, 1200)}),
    ("E_TARGET_ALREADY_FINE", {"spacing": (0.35, 0.35)}),
    ("E_CONTRAST_UNSUPPORTED", {"AcquisitionContrast": "T2_STAR"}),
    ("E_CONTRAST_UNKNOWN", {"EchoTime": None}),
    ("E_CONTRAST_NOT_WANTED", {"AcquisitionContrast": "PROTON_DENSITY"}),
]


@pytest.mark.parametrize(("code", "changes"), REFUSED, ids=[f"{code}-{next(iter(c))}" for code, c in REFUSED])
def test_refused(code: str, changes: dict[str, Any]) -> None:
    verdicts = judge(t2(**changes))
    assert {v.role for v in verdicts} == {"neither"}
    failed = [p for v in verdicts for p in v.predicates if p.outcome is PredicateOutcome.FAIL]
    assert code in {p.code for p in failed}
    assert all(p.sentence.endswith(".") and (p.code or "").startswith("E_") for p in failed)


ALLOWED: list[dict[str, Any]] = [
    {"AcquisitionContrast": "UNKNOWN"},
    {"DiffusionBValue": 0.0},  # Philips writes it in every series
    {"ComplexImageComponent": "MAGNITUDE"},
    {"ImageType": ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"]},
    {"ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D", "FS", "MEAN"]},
    {"PhotometricInterpretation": "MONOCHROME1"},
    {"SeriesDescription": "T2 TSE copilot"},  # no whole word of it is vetoed
    {"SeriesDescription": None},
    {"SpacingBetweenSlices": 1.0},  # the gap, as some scanners mean it
    {"SpacingBetweenSlices": None, "SliceThickness": None},
    {"BurnedInAnnotation": "NO", "SyntheticData": "NO", "AngioFlag": "N"},
]


@pytest.mark.parametrize("changes", ALLOWED, ids=str)
def test_not_refused(changes: dict[str, Any]) -> None:
    (verdict,) = judge(t2(**changes))
    assert verdict.role == "target", [p.sentence for p in verdict.predicates if p.code]


WARNED: list[tuple[str, dict[str, Any]]] = [
    ("W_DERIVED", {"ImageType": ["DERIVED", "PRIMARY", "M", "DIS2D"]}),
    ("W_FEWER_THAN_ANNOUNCED", {"ImagesInAcquisition": 6}),
    ("W_ACQUIRED_MATRIX_UNKNOWN", {"AcquisitionMatrix": None}),
    ("W_INTERPOLATED", {"AcquisitionMatrix": [0, 64, 40, 0]}),
]


@pytest.mark.parametrize(("code", "changes"), WARNED, ids=[code for code, _ in WARNED])
def test_warned(code: str, changes: dict[str, Any]) -> None:
    (verdict,) = judge(t2(**changes))
    assert verdict.role == "target"
    assert [p.code for p in verdict.predicates if p.outcome is PredicateOutcome.WARN] == [code]


def test_of_images_that_are_not_mr_nothing_else_is_said() -> None:
    (verdict,) = judge(t2(Modality="CT"))
    assert [p.code for p in verdict.predicates if p.code] == ["E_NOT_MR"]
    assert len(verdict.predicates) == 2


def test_ge_says_phase_in_a_private_element() -> None:
    headers = t2(Manufacturer="GE MEDICAL SYSTEMS")
    for header in headers:
        header.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", 1)
    assert "E_NOT_MAGNITUDE" in codes(headers)


def test_ai_derivation_code() -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "123110", "DCM", "Artificial Intelligence"
    assert "E_AI_OUTPUT" in codes(t2(DerivationCodeSequence=[item]))


def test_a_missing_slice_and_an_uneven_step_are_told_apart() -> None:
    gap = t2(slices=7)
    del gap[3]
    assert "E_MISSING_SLICES" in codes(gap)
    uneven = t2(slices=7)
    uneven[3].ImagePositionPatient[2] += 0.6
    assert "E_IRREGULAR_SPACING" in codes(uneven)
    rounded = t2(slices=7)
    rounded[3].ImagePositionPatient[2] += 0.005
    assert codes(rounded) == set()


def test_sheared_stack() -> None:
    headers = t2()
    for index, header in enumerate(headers):
        header.ImagePositionPatient[0] += 0.3 * index
    assert "E_SHEARED_STACK" in codes(headers)


def test_three_planes_are_a_localizer_and_angled_blocks_are_not() -> None:
    assert "E_LOCALIZER" in codes([*t2(), *t2(orientation=SAGITTAL, first=5)])
    tilted = (1.0, 0.0, 0.0, 0.0, 0.9659258, 0.258819)  # 15 degrees
    verdicts = judge([*t2(), *t2(orientation=tilted, first=5)])
    assert [v.role for v in verdicts] == ["target", "target"]


def test_an_image_without_place_spoils_its_series() -> None:
    headers = t2(slices=6)
    del headers[5].ImagePositionPatient
    assert {"E_SERIES_DAMAGED", "E_ATTRIBUTES_MISSING"} <= codes(headers)


def test_stacks_of_one_series_that_match_equally_are_all_refused_and_named() -> None:
    verdicts = judge([*t2(EchoTime=80, EchoNumbers=1), *t2(EchoTime=120, EchoNumbers=2, first=5)])
    assert [v.role for v in verdicts] == ["neither", "neither"]
    for verdict in verdicts:
        predicate = verdict.predicates[-1]
        assert predicate.code == "E_AMBIGUOUS_STACKS"
        assert "series 3, echo 1, TE 80 ms, series 3, echo 2, TE 120 ms" in predicate.sentence


def test_a_stray_slice_of_another_kind_makes_its_stack_doubtful() -> None:
    headers = t2(slices=6)
    headers[5].ImageType = ["ORIGINAL", "PRIMARY", "M", "NORM"]
    assert {"E_AMBIGUOUS_STACKS", "E_TOO_FEW_SLICES"} <= codes(headers)


def test_phase_beside_magnitude_in_one_series_leaves_the_magnitude() -> None:
    verdicts = judge([*t2(), *t2(first=5, ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])])
    assert sorted(v.role for v in verdicts) == ["neither", "target"]


def test_enhanced_is_judged_frame_by_frame() -> None:
    (verdict,) = judge([enhanced(t2())])
    assert (verdict.contrast, verdict.role) == ("T2", "target")
    assert verdict.stack.frames == (1, 2, 3, 4, 5)
    assert verdict.stack.sop_uids == ("1.2.826.0.1.3680043.10.1.3.1",) * 5
    assert {p.outcome for p in verdict.predicates} == {PredicateOutcome.PASS}
    bare = enhanced(t2())
    del bare.PerFrameFunctionalGroupsSequence
    assert "E_ENHANCED_NO_FUNCTIONAL_GROUPS" in codes([bare])


def test_an_enhanced_dual_echo_is_two_stacks() -> None:
    echoes = [*t2(EchoTime=20), *t2(EchoTime=100)]
    verdicts = judge([enhanced(echoes)])
    assert [(v.contrast, v.role) for v in verdicts] == [("PD", "neither"), ("T2", "target")]
    assert verdicts[1].stack.frames == (6, 7, 8, 9, 10)
    assert verdicts[1].stack.label == "series 3, TE 100 ms"


def test_thresholds_come_from_the_settings() -> None:
    assert "E_TOO_FEW_SLICES" in codes(t2(), MatchSettings(stack=StackLimits(min_slices=6)))
    refuse = MatchSettings(target=TargetLimits(interpolated="refuse"))
    assert "E_INTERPOLATED" in codes(t2(AcquisitionMatrix=[0, 32, 32, 0]), refuse)
    assert "E_DESCRIPTION_VETO" in codes(t2(SeriesDescription="house rule"), MatchSettings(description_vetoes=["rule"]))


def test_lossy_images_are_taken_where_the_site_accepts_them() -> None:
    accept = MatchSettings(lossy="accept")
    (verdict,) = judge(t2(LossyImageCompression="01"), accept)
    assert verdict.role == "target"
    assert codes(t2(LossyImageCompression="01"), accept) == {"W_LOSSY"}
    headers = t2()
    for header in headers:
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = JPEGLSNearLossless
    assert codes(headers) == {"E_LOSSY"}


@pytest.mark.parametrize(
    ("group", "creator", "element", "vr", "value"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x0C, "IS", 800),
        (0x2001, "Philips Imaging DD 001", 0x03, "FL", 800.0),
        (0x0043, "GEMS_PARM_01", 0x39, "IS", [1000000800, 8, 0, 0]),
    ],
)
def test_b_values_in_private_elements(group: int, creator: str, element: int, vr: str, value: Any) -> None:
    headers = t2()
    for header in headers:
        header.private_block(group, creator, create=True).add_new(element, vr, value)
    (verdict,) = judge(headers)
    assert verdict.stack.b_value == 800
    assert "E_DIFFUSION" in codes(headers)


def test_a_target_the_model_was_not_trained_for() -> None:
    settings = MatchSettings(targets=["STIR"])
    assert "E_NOT_TRAINED_FOR" in codes(t2(AcquisitionContrast="STIR"), settings)


def test_a_reference_is_not_held_to_the_targets_limits() -> None:
    (verdict,) = judge(t1(spacing=(0.3, 0.3), matrix=(1200, 1200)))
    assert verdict.role == "reference"


def test_sentences_hold_no_patient_data() -> None:
    verdicts = judge([*t2(), *series(4, {}, PatientBirthDate="19700102"), *t2(9, Rows=None)])
    text = " ".join(f"{p.value} {p.threshold} {p.sentence}" for v in verdicts for p in v.predicates)
    assert not any(secret in text for secret in ("4711", "Muster", "Erika", "1970"))
