"""Where pixels are in the patient: the same for everyone who asks."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.dicom.geometry import (
    StackGeometry,
    angle_between,
    finer_grid,
    is_orientation,
    normal_of,
    orthonormal,
    pixel_axes,
    slice_step,
    voxel_axes,
    voxel_extent,
)

angles = st.floats(-3, 3)
sizes = st.floats(0.1, 10)


def turned(a: float, b: float, c: float) -> np.ndarray:
    """Two orthogonal unit vectors, (2, 3)."""
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray((x @ y @ z)[:, :2].T)


@st.composite
def stacks(draw: Any) -> StackGeometry:
    axes = turned(draw(angles), draw(angles), draw(angles))
    normal = np.cross(*axes)
    origin = np.array([draw(st.floats(-200, 200)) for _ in range(3)])
    step, n = draw(sizes), draw(st.integers(1, 6))
    return StackGeometry(
        orientation=tuple(axes.ravel()), positions=tuple(tuple(origin + i * step * normal) for i in range(n)),
        spacing=(draw(sizes), draw(sizes)), rows=draw(st.integers(2, 64)), columns=draw(st.integers(2, 64)),
        slice_thickness=draw(sizes), spacing_between_slices=None,
    )  # fmt: skip


@given(stacks(), st.integers(0, 63), st.integers(0, 63))
def test_a_pixel_is_found_where_it_was_put(stack: StackGeometry, row: int, column: int) -> None:
    place = stack.at(row, column)
    assert place.shape == (len(stack.positions), 3)
    found = stack.pixel_of(place[0])
    assert np.allclose(found, (row, column), atol=1e-6)


@given(stacks())
def test_all_ways_to_a_pixel_lead_to_one_place(stack: StackGeometry) -> None:
    """Matching asks a stack, resampling the axes of its voxels."""
    positions = np.asarray(stack.positions)
    step = slice_step(positions, stack.normal, stack.slice_thickness or 0)
    axes = voxel_axes(stack.orientation, stack.spacing, step)
    last = len(positions) - 1
    assert np.allclose(positions[0] + axes @ [3, 2, last], stack.at(2, 3)[last], atol=1e-6)
    along_row, along_column = pixel_axes(stack.orientation, stack.spacing)
    assert np.allclose(positions[0] + 3 * along_row + 2 * along_column, stack.at(2, 3)[0], atol=1e-9)
    for axis, size in zip(axes.T, np.linalg.norm(axes, axis=0), strict=True):
        assert voxel_extent(axes, axis / size) == pytest.approx(size)


@given(stacks(), st.integers(2, 4))
def test_a_finer_grid_shows_the_same_field_of_view(stack: StackGeometry, scale: int) -> None:
    positions = np.asarray(stack.positions)
    same_edge, fine = finer_grid(positions, stack.orientation, stack.spacing, scale, (1 - scale) / (2 * scale))
    assert fine == (stack.spacing[0] / scale, stack.spacing[1] / scale)
    along_row, along_column = pixel_axes(stack.orientation, stack.spacing)
    fine_row, fine_column = pixel_axes(stack.orientation, fine)
    corner = positions - (along_row + along_column) / 2
    assert np.allclose(same_edge - (fine_row + fine_column) / 2, corner, atol=1e-6)
    same_start, _ = finer_grid(positions, stack.orientation, stack.spacing, scale, 0)
    assert np.array_equal(same_start, positions)


@given(angles, angles, angles, st.floats(-0.002, 0.002))
def test_rounded_cosines_become_exactly_orthonormal(a: float, b: float, c: float, error: float) -> None:
    cosines = turned(a, b, c).ravel() + error
    assert is_orientation(tuple(cosines))
    axes = np.array(orthonormal(tuple(cosines)))
    assert np.allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    assert np.linalg.norm(normal_of(axes)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    "cosines",
    [(1, 0, 0, 1, 0, 0), (2, 0, 0, 0, 1, 0), (0, 0, 0, 0, 0, 0), (1, 0, 0, 0.1, 1, 0), (1e200, 0, 0, 0, 1e200, 0)],
)
def test_what_is_no_orientation(cosines: tuple[float, ...]) -> None:
    assert not is_orientation(cosines)


@given(angles, angles, angles, st.floats(0, 1.5))
def test_the_angle_between_planes_does_not_depend_on_their_side(a: float, b: float, c: float, tilt: float) -> None:
    axes = turned(a, b, c)
    normal, along_row = normal_of(axes), axes[0]
    other = np.cos(tilt) * normal + np.sin(tilt) * along_row
    assert angle_between(normal, other) == pytest.approx(np.degrees(tilt), abs=1e-6)
    assert angle_between(normal, -other) == pytest.approx(np.degrees(tilt), abs=1e-6)
