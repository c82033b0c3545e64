"""The geometry of pairs, over all orientations."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from node.config.match import MatchSettings, PairingLimits
from node.dicom.geometry import angle_between
from node.match.assess import assess_study
from node.match.stacks import stacks_of
from tests.unit.node.match.builder import MODEL, SAGITTAL, t1, t2


def codes(headers: list[Dataset], rules: MatchSettings | None = None) -> list[str]:
    (pair,) = assess_study(headers, rules or MatchSettings(), MODEL).pairs
    return [p.code for p in pair.predicates if p.code]


def test_a_pair_that_fits() -> None:
    assert codes([*t2(), *t1()]) == []


PAIRS: list[tuple[str, dict[str, Any]]] = [
    ("E_OTHER_PATIENT", {"PatientID": "0815"}),
    ("E_OTHER_PATIENT", {"PatientName": "Other^Person"}),
    ("E_OTHER_STUDY", {"StudyInstanceUID": "1.2.3"}),
    ("E_FRAME_OF_REFERENCE", {"FrameOfReferenceUID": "1.2.3"}),
    ("E_FRAME_OF_REFERENCE", {"FrameOfReferenceUID": None}),
    ("E_NOT_PARALLEL", {"orientation": SAGITTAL}),
    ("E_PLANES_APART", {"centre": (0, 0, 2.5)}),
    ("E_PLANES_APART", {"slices": 4, "centre": (0, 0, -2.5)}),
    ("E_FIELD_OF_VIEW", {"centre": (40, 0, 0)}),
    ("E_FIELD_OF_VIEW", {"matrix": (200, 256)}),
    ("E_REFERENCE_COARSE", {"matrix": (124, 124), "spacing": (1.86, 1.86)}),
    ("W_REFERENCE_COARSE", {"matrix": (200, 200), "spacing": (1.16, 1.16)}),
    ("W_CONTRAST_AGENT", {"ContrastBolusAgent": "Gadovist"}),
    ("W_REFERENCE_INTERPOLATED", {"AcquisitionMatrix": [0, 208, 208, 0]}),
]


@pytest.mark.parametrize(("code", "changes"), PAIRS, ids=[f"{code}-{next(iter(c))}" for code, c in PAIRS])
def test_what_speaks_against_a_pair(code: str, changes: dict[str, Any]) -> None:
    assert codes([*t2(), *t1(**changes)]) == [code]


def test_a_finer_reference_with_other_matrix_and_planes_between_fits() -> None:
    assert codes([*t2(), *t1(slices=31, step=1.0, thickness=1.0, matrix=(512, 480), spacing=(0.5, 0.5))]) == []


def test_half_a_thick_reference_slice_is_near_enough() -> None:
    assert codes([*t2(), *t1(slices=6, thickness=5.0, centre=(0, 0, 2.4))]) == []


def test_both_without_patient_id_are_one_patient() -> None:
    assert codes([*t2(PatientID=None), *t1(PatientID="")]) == []


def test_no_contrast_agent_in_so_many_words() -> None:
    assert codes([*t2(), *t1(ContrastBolusAgent="None")]) == []


def test_thresholds_come_from_the_settings() -> None:
    narrow = MatchSettings(pairing=PairingLimits(min_coverage=0.8))
    assert codes([*t2(), *t1(matrix=(210, 256))], narrow) == []


def test_an_interpolated_target_has_the_output_of_what_was_acquired() -> None:
    # 256 pixels of 0.9 mm, of which 64 were measured: the output has 0.9 mm, not 0.225
    target = t2(matrix=(256, 256), spacing=(0.9, 0.9), AcquisitionMatrix=[0, 64, 64, 0])
    assert codes([*target, *t1()]) == []
    assert codes([*t2(matrix=(256, 256), spacing=(0.9, 0.9)), *t1()]) == ["E_REFERENCE_COARSE"]


VOLUME: dict[str, Any] = {
    "orientation": SAGITTAL,
    "slices": 240,
    "matrix": (256, 256),
    "spacing": (1.0, 1.0),
    "step": 1.0,
    "thickness": 1.0,
}
"""A sagittal reference of 1 mm cubes."""

THREE_D = {"MRAcquisitionType": "3D"}
CUTS: list[tuple[str, list[str], dict[str, Any]]] = [
    ("3-D", [], THREE_D),
    ("cubes, whatever they were acquired as", [], {"MRAcquisitionType": "2D"}),
    ("slabs of a 3-D acquisition", ["W_REFERENCE_COARSE"], {"thickness": 1.6, "step": 0.8, "slices": 300, **THREE_D}),
    ("slabs too coarse", ["E_REFERENCE_COARSE"], {"step": 2.5, "thickness": 2.5, "slices": 100, **THREE_D}),
    ("slabs of a 2-D acquisition", ["E_NOT_PARALLEL"], {"step": 2.5, "thickness": 2.5, "slices": 100}),
    ("gaps", ["E_NOT_PARALLEL"], {"step": 2.5, "thickness": 1.0, "slices": 100}),
    ("just enough slices: 160 mm of 230.4", ["W_FIELD_OF_VIEW"], {"slices": 160, **THREE_D}),
    ("too few slices", ["E_FIELD_OF_VIEW"], {"slices": 110, **THREE_D}),
    ("enough on the whole, but not at the vertex", ["E_FIELD_OF_VIEW"], {"centre": (0, 0, -120), **THREE_D}),
    ("beside", ["E_FIELD_OF_VIEW"], {"centre": (0, 0, 125), **THREE_D}),
]


@pytest.mark.parametrize(("found", "changes"), [c[1:] for c in CUTS], ids=[c[0] for c in CUTS])
def test_a_volume_may_lie_at_any_angle_and_is_judged_in_the_planes_of_the_target(
    found: list[str], changes: dict[str, Any]
) -> None:
    assert codes([*t2(), *t1(**{**VOLUME, **changes})]) == found


def rotation(quaternion: list[float]) -> Any:
    w, x, y, z = np.asarray(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


number = st.floats(-1, 1)
quaternions = st.lists(number, min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1)
centres = st.tuples(*[st.floats(-100, 100)] * 3)


@settings(max_examples=30, deadline=None)
@given(quaternions, centres, st.floats(0, 360), st.booleans())
def test_parallel_stacks_pair_however_oblique_turned_or_flipped(
    quaternion: list[float], centre: tuple[float, float, float], turn: float, flipped: bool
) -> None:
    along_row, along_column, normal = rotation(quaternion).T
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    row = c * along_row + s * along_column
    column = np.cross(normal, row) * (-1 if flipped else 1)
    target = t2(orientation=[*along_row, *along_column], centre=centre)
    reference = t1(orientation=[*row, *column], centre=centre, matrix=(384, 384))
    assert codes([*target, *reference]) == []


@settings(max_examples=30, deadline=None)
@given(quaternions, st.floats(0, 360), st.floats(0.05, 60))
def test_tilted_stacks_do_not(quaternion: list[float], direction: float, tilt: float) -> None:
    along_row, along_column, _ = rotation(quaternion).T
    axis = np.cos(np.radians(direction)) * along_row + np.sin(np.radians(direction)) * along_column
    angle = np.radians(tilt)

    def tilted(v: Any) -> Any:
        return (
            v * np.cos(angle) + np.cross(axis, v) * np.sin(angle) + axis * (axis @ v) * (1 - np.cos(angle))
        )  # Rodrigues

    target = t2(orientation=[*along_row, *along_column])
    reference = t1(orientation=[*tilted(along_row), *tilted(along_column)], matrix=(384, 384))
    a, b = (stack.geometry for stack in stacks_of([*target, *reference]))
    assert a is not None and b is not None
    assert angle_between(a.normal, b.normal) == pytest.approx(tilt, abs=1e-6)
    assert ("E_NOT_PARALLEL" in codes([*target, *reference])) == (angle_between(a.normal, b.normal) > 1)


@settings(max_examples=10, deadline=None)
@given(quaternions, quaternions)
def test_cubes_fit_whatever_the_angle(target_turn: list[float], reference_turn: list[float]) -> None:
    along_row, along_column, _ = rotation(target_turn).T
    row, column, _ = rotation(reference_turn).T
    target = t2(orientation=[*along_row, *along_column], matrix=(20, 20), centre=(5, -7, 90))
    cubes = {**VOLUME, "slices": 110, "matrix": (110, 110), "centre": (5, -7, 90)}
    assert codes([*target, *t1(**{**cubes, "orientation": [*row, *column]})]) == []
