"""The reference on the target's fine grid: where every pixel lies, to a twentieth of a pixel."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from node.dicom.geometry import finer_grid
from node.infer.resample import resample_reference
from node.infer.volume import Volume

SCALE = 4


def rotation(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    c, s = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    z = np.array([[c[0], -s[0], 0], [s[0], c[0], 0], [0, 0, 1]])
    y = np.array([[c[1], 0, s[1]], [0, 1, 0], [-s[1], 0, c[1]]])
    x = np.array([[1, 0, 0], [0, c[2], -s[2]], [0, s[2], c[2]]])
    return z @ y @ x


def centred_volume(
    axes: NDArray[np.float64],
    shape: tuple[int, int, int],
    spacing: tuple[float, float],
    distance: float,
    thickness: float,
    name: str = "1.2.3",
) -> Volume:
    """A volume of zeros whose middle is the origin of the patient's coordinates; the columns of `axes` are the
    directions along a row, along a column and across the slices."""
    n, rows, columns = shape
    extent = np.array([(columns - 1) * spacing[1], (rows - 1) * spacing[0], (n - 1) * distance])
    first = -axes @ extent / 2
    return Volume(
        pixels=np.zeros(shape, np.float32),
        positions=np.array([first + i * distance * axes[:, 2] for i in range(n)]),
        orientation=(tuple(axes[:, 0]), tuple(axes[:, 1])),
        spacing=spacing,
        slice_thickness=thickness,
        sop_uids=tuple(f"{name}.{i + 1}" for i in range(n)),
        frame_of_reference_uid="1.2",
    )


def pixel_places(
    positions: NDArray[np.float64], orientation: object, spacing: tuple[float, float], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """(n, rows, columns, 3) mm, straight from the equation of PS3.3 C.7.6.2.1.1."""
    x, y = np.array(orientation)
    r, c = np.indices(shape)
    return positions[:, None, None, :] + (c * spacing[1])[None, ..., None] * x + (r * spacing[0])[None, ..., None] * y


def with_field(volume: Volume, field: NDArray[np.float64], level: float) -> Volume:
    places = pixel_places(volume.positions, volume.orientation, volume.spacing, volume.pixels.shape[1:])
    return Volume(**{**volume.__dict__, "pixels": (places @ field + level).astype(np.float32)})


angles = st.tuples(*[st.floats(-3.1, 3.1, allow_subnormal=False)] * 3)


@settings(max_examples=20, deadline=None)
@given(
    target_angles=angles,
    tilt=st.tuples(*[st.floats(-0.2, 0.2)] * 3),
    field_angles=angles,
    matrix=st.tuples(st.integers(8, 14), st.integers(8, 14)),
    spacing=st.tuples(st.floats(1.5, 3.0), st.floats(1.5, 3.0)),
    reference_spacing=st.tuples(st.floats(0.7, 1.3), st.floats(0.7, 1.3)),
    thickness=st.floats(1.0, 5.0),
    offset=st.sampled_from([0.0, -0.375]),
)
def test_affine_field_is_resampled_to_a_twentieth_of_a_pixel(
    target_angles, tilt, field_angles, matrix, spacing, reference_spacing, thickness, offset
):  # type: ignore[no-untyped-def]
    axes = rotation(*target_angles)
    target = centred_volume(axes, (3, *matrix), spacing, distance=thickness, thickness=thickness)
    reference = centred_volume(axes @ rotation(*tilt), (48, 96, 90), reference_spacing, 1.2, 1.2, name="1.2.4")
    gradient = rotation(*field_angles)[:, 0]  # one intensity unit a millimetre
    reference = with_field(reference, gradient, level=1000.0)

    positions, fine = finer_grid(target.positions, target.orientation, target.spacing, SCALE, offset)
    shape = (SCALE * matrix[0], SCALE * matrix[1])
    expected = pixel_places(positions, target.orientation, fine, shape) @ gradient + 1000.0
    inside = _inside(reference, pixel_places(positions, target.orientation, fine, shape), margin=5 + thickness)
    found = resample_reference(reference, target, SCALE, offset)

    assert found.pixels.shape == (3, *shape)
    assert inside.any()
    assert np.abs(found.pixels - expected)[inside].max() < 0.05 * min(fine)


def _inside(volume: Volume, places: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
    """Far enough from the reference's border, where a spline fitted to a cut-off ramp bends."""
    n, rows, columns = volume.pixels.shape
    x, y = np.array(volume.orientation)
    step = volume.positions[1] - volume.positions[0]
    away = places - volume.positions[0]
    inside = np.ones(places.shape[:-1], dtype=bool)
    extents = (
        (x, columns * volume.spacing[1]),
        (y, rows * volume.spacing[0]),
        (volume.normal, n * np.linalg.norm(step)),
    )
    for axis, extent in extents:
        along = away @ axis
        inside &= (along > margin) & (along < extent - margin)
    return inside


def test_a_reference_on_the_fine_grid_stays_as_it_is() -> None:
    axes = rotation(0.3, -0.2, 0.5)
    target = centred_volume(axes, (5, 12, 10), (2.0, 3.0), distance=4.0, thickness=4.0)
    pixels = np.random.default_rng(1).random((5, 48, 40), dtype=np.float32) * 800
    positions, spacing = finer_grid(target.positions, target.orientation, target.spacing, SCALE, 0.0)
    reference = Volume(**{**target.__dict__, "pixels": pixels, "positions": positions, "spacing": spacing})

    found = resample_reference(reference, target, SCALE, 0.0)

    assert np.allclose(found.pixels, pixels, atol=1e-2)
    assert found.coverage.tolist() == [1.0] * 5
    assert found.slices == [[i] for i in range(len(target.sop_uids))]


def test_pixel_spacing_names_the_distance_between_rows_first() -> None:
    positions, spacing = finer_grid(np.zeros((1, 3)), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), (8.0, 4.0), 4, -0.375)
    assert spacing == (2.0, 1.0)
    assert np.allclose(positions, [[-1.5, -3.0, 0.0]])  # 1.5 fine pixels along x (columns) and along y (rows)


def test_thick_target_slice_shows_the_mean_over_its_thickness() -> None:
    axes = np.eye(3)
    target = centred_volume(axes, (1, 8, 8), (4.0, 4.0), distance=4.0, thickness=4.0)
    reference = centred_volume(axes, (20, 40, 40), (1.0, 1.0), distance=1.0, thickness=1.0, name="1.2.4")
    levels = np.random.default_rng(2).random(20).astype(np.float32) * 100
    reference = Volume(**{**reference.__dict__, "pixels": np.broadcast_to(levels[:, None, None], (20, 40, 40)).copy()})

    found = resample_reference(reference, target, SCALE, 0.0)

    assert np.allclose(found.pixels, levels[8:12].mean(), rtol=1e-4)
    assert found.slices == [[8, 9, 10, 11]]


@pytest.mark.parametrize(("shift", "coverage"), [(0.0, 1.0), (18.0, 0.5), (1000.0, 0.0)])
def test_coverage_is_the_share_of_the_slice_that_the_reference_reaches(shift: float, coverage: float) -> None:
    target = centred_volume(np.eye(3), (2, 16, 16), (2.0, 2.0), distance=3.0, thickness=3.0)
    reference = centred_volume(np.eye(3), (8, 34, 34), (1.0, 1.0), distance=3.0, thickness=3.0, name="1.2.4")
    reference = Volume(**{**reference.__dict__, "positions": reference.positions + np.array([shift, 0, 0])})

    found = resample_reference(reference, target, SCALE, 0.0)

    assert found.coverage == pytest.approx([coverage] * 2, abs=1e-6)
    assert [bool(slices) for slices in found.slices] == [coverage > 0] * 2


def test_a_reference_finer_than_the_result_does_not_alias() -> None:
    """Stripes of one and a half pixels of the result: too fine to be shown, so that they must not appear wider."""
    target = centred_volume(np.eye(3), (1, 10, 10), (4.0, 4.0), distance=4.0, thickness=4.0)
    reference = centred_volume(np.eye(3), (8, 120, 120), (0.5, 0.5), distance=2.0, thickness=2.0, name="1.2.4")
    places = pixel_places(reference.positions, reference.orientation, reference.spacing, (120, 120))
    stripes = 500 + 400 * np.cos(2 * np.pi * places[..., 0] / 1.25)
    found = resample_reference(replace(reference, pixels=stripes.astype(np.float32)), target, SCALE, 0.0)
    assert np.ptp(found.pixels) < 0.4 * np.ptp(stripes)


def test_sagittal_reference_under_axial_target_is_found_whole() -> None:
    """A 3-D reference reformatted: every sagittal slice crosses every axial one."""
    sagittal = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    target = centred_volume(np.eye(3), (3, 10, 12), (4.0, 4.0), distance=4.0, thickness=4.0)
    reference = centred_volume(sagittal @ np.diag([1, 1, -1]), (64, 60, 62), (1.0, 1.0), 1.0, 1.0, name="1.2.4")
    gradient = np.array([3.0, 2.0, 1.0])
    reference = with_field(reference, gradient, level=500.0)

    found = resample_reference(reference, target, SCALE, 0.0)

    positions, fine = finer_grid(target.positions, target.orientation, target.spacing, SCALE, 0.0)
    expected = pixel_places(positions, target.orientation, fine, (40, 48)) @ gradient + 500.0
    assert np.abs(found.pixels - expected).max() < 0.05 * np.linalg.norm(gradient)
    assert all(len(slices) >= 48 for slices in found.slices)


WAVES = 2 * np.pi * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.6, 0.5], [-0.5, 0.7, 0.5]]) / 10.0
"""Wave vectors of a phantom in the patient's coordinates, radians a mm: wavelengths of 10 mm."""


def phantom(places: NDArray[np.float64], voxel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The waves, each from -1 to 1, their mean over voxels at `places`; the columns of `voxel` are its sides in mm."""
    halves = WAVES @ voxel / 2
    seen = np.sinc(halves / np.pi).prod(axis=1)  # the mean of a wave over a voxel
    return np.asarray((np.cos(places @ WAVES.T + np.arange(len(WAVES))) * seen).mean(axis=-1))


def photographed(volume: Volume, positions: NDArray[np.float64], spacing: tuple[float, float], shape: Any) -> Any:
    """What a scanner without noise shows of the phantom: means over slices, points within their planes."""
    places = pixel_places(positions, volume.orientation, spacing, shape)
    return phantom(places, np.outer(volume.normal, [0.0, 0.0, volume.slice_thickness]))


PLANES = {
    "axial": np.eye(3),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]).T,
    "coronal": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).T,
}


@settings(max_examples=25, deadline=None)
@given(
    plane=st.sampled_from(sorted(PLANES)),
    oblique=st.tuples(*[st.floats(-0.6, 0.6)] * 3),
    reference_angles=angles,
    matrix=st.tuples(st.integers(6, 14), st.integers(6, 14)),
    spacing=st.tuples(st.floats(1.6, 4.0), st.floats(1.6, 4.0)),
    thickness=st.floats(1.0, 4.0),
    gap=st.floats(0.0, 2.0),
    voxel=st.tuples(*[st.floats(0.7, 1.2)] * 3),
    offset=st.sampled_from([0.0, -0.375]),
)
def test_a_volume_at_any_angle_shows_the_phantom_on_the_targets_planes(
    plane, oblique, reference_angles, matrix, spacing, thickness, gap, voxel, offset
):  # type: ignore[no-untyped-def]
    """Whatever the orientation, spacing and matrix of both: the phantom as the target's slices show it, to 2 % of its
    amplitude (0.8 % was the worst of 25; the mean over a slice is one over a few points)."""
    axes = PLANES[plane] @ rotation(*oblique)
    target = centred_volume(axes, (3, *matrix), spacing, distance=thickness + gap, thickness=thickness)
    extent = np.linalg.norm([*np.multiply(matrix, spacing), 3 * (thickness + gap)]) + 14  # and a margin for the spline
    n, rows, columns = (int(np.ceil(extent / v)) for v in (voxel[2], voxel[0], voxel[1]))
    reference = centred_volume(
        rotation(*reference_angles), (n, rows, columns), voxel[:2], distance=voxel[2], thickness=voxel[2], name="1.2.4"
    )
    pixels = 500 + 400 * photographed(reference, reference.positions, reference.spacing, (rows, columns))
    reference = replace(reference, pixels=pixels.astype(np.float32))

    found = resample_reference(reference, target, SCALE, offset)

    positions, fine = finer_grid(target.positions, target.orientation, target.spacing, SCALE, offset)
    expected = 500 + 400 * photographed(target, positions, fine, found.pixels.shape[1:])
    assert found.coverage.tolist() == [1.0] * 3
    assert np.abs(found.pixels - expected).max() < 0.02 * 400
