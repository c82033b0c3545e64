"""Grids of slices in the patient's coordinate system, and the reference resampled onto the target's fine grid."""

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from node.infer.volume import Vector, Volume


@dataclass(frozen=True)
class Reference:
    """The reference as the model takes it: one fine-grid slice for each target slice.

    pixels: (n, scale * rows, scale * columns) float32; 0 where the reference does not reach.
    coverage: (n,) share of each slice's pixels that the reference reaches, 0 to 1.
    slices: for each slice, the indices of the reference slices its pixels lie in or between.
    """

    pixels: NDArray[np.float32]
    coverage: NDArray[np.float64]
    slices: list[list[int]]


def fine_grid(
    positions: NDArray[np.float64],
    orientation: tuple[Vector, Vector],
    spacing: tuple[float, float],
    scale: int,
    offset: float,
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """(positions, spacing) of slices whose pixels are divided `scale` times in-plane.

    `offset` is the manifest's grid offset d, the place of the first fine pixel in units of a coarse pixel: 0 for a
    model trained on centred k-space truncation, whose fine grid starts where the coarse one does;
    (1 - scale) / (2 * scale) for one trained on averaged pixels, whose grids share their outer edge.
    """
    along_row, along_column = np.array(orientation)
    between_rows, between_columns = spacing
    shift = offset * (between_columns * along_row + between_rows * along_column)
    return positions + shift, (between_rows / scale, between_columns / scale)


def resample_reference(reference: Volume, target: Volume, scale: int, offset: float) -> Reference:
    """Resample `reference` onto the fine grid of every slice of `target`, which may lie obliquely to it.

    Within a plane: cubic B-spline, which leaves a reference already on that grid as it is and, unlike linear
    interpolation, keeps the fine detail the model is to take from it; clipped to the reference's range, since it can
    overshoot. Across planes: the mean over the target's slice thickness, in steps of the reference's slice distance,
    because a thick target slice shows that mean; a reference at least as thick is taken at the plane alone.
    Target slices must be parallel; reference slices equally spaced (matching has checked both).
    """
    positions, spacing = fine_grid(target.positions, target.orientation, target.spacing, scale, offset)
    rows, columns = scale * target.pixels.shape[1], scale * target.pixels.shape[2]
    distance = float(np.linalg.norm(_step(reference)))
    planes = max(1, round(target.slice_thickness / distance))
    plane_distance = target.slice_thickness / planes
    depths = (np.arange(planes, dtype=np.float64) - (planes - 1) / 2) * plane_distance

    grid = sitk.ResampleImageFilter()
    grid.SetSize((columns, rows, planes))
    grid.SetOutputSpacing((spacing[1], spacing[0], plane_distance))
    grid.SetOutputDirection(_direction(*target.orientation, target.normal))

    image, interpolator = _interpolable(reference)
    reached = _like(sitk.GetImageFromArray(np.ones(reference.pixels.shape, dtype=np.uint8)), reference)
    pixels = np.zeros((len(positions), rows, columns), dtype=np.float32)
    coverage = np.zeros(len(positions))
    slices = []
    for i, position in enumerate(positions):
        grid.SetOutputOrigin((position + depths[0] * target.normal).tolist())
        grid.SetInterpolator(interpolator)
        grid.SetOutputPixelType(sitk.sitkFloat32)
        values = sitk.GetArrayFromImage(grid.Execute(image))
        grid.SetInterpolator(sitk.sitkNearestNeighbor)
        grid.SetOutputPixelType(sitk.sitkUInt8)
        inside = sitk.GetArrayFromImage(grid.Execute(reached)) > 0
        count = inside.sum(axis=0)
        pixels[i] = np.where(inside, values, 0).sum(axis=0) / np.maximum(count, 1)
        coverage[i] = np.mean(count > 0)
        slices.append(
            _contributing(reference, position, depths, target, spacing, (rows, columns)) if coverage[i] else []
        )
    return Reference(np.clip(pixels, 0, reference.pixels.max()), coverage, slices)


def _contributing(
    reference: Volume,
    position: NDArray[np.float64],
    depths: NDArray[np.float64],
    target: Volume,
    spacing: tuple[float, float],
    shape: tuple[int, int],
) -> list[int]:
    """The reference slices that a target slab lies in or between; its extremes are at its corners."""
    along_row, along_column = np.array(target.orientation)
    corners = [
        position + depth * target.normal + c * spacing[1] * along_row + r * spacing[0] * along_column
        for depth in (depths[0], depths[-1])
        for r in (0, shape[0] - 1)
        for c in (0, shape[1] - 1)
    ]
    to_index = np.linalg.inv(_columns(reference))
    indices = [float((to_index @ (corner - reference.positions[0]))[2]) for corner in corners]
    rounding = 1e-3  # of a slice: a plane that lies on a reference slice lies in that one alone
    first = max(0, math.floor(min(indices) + rounding))
    last = min(len(reference.sop_uids) - 1, math.ceil(max(indices) - rounding))
    return list(range(first, last + 1))


def _interpolable(reference: Volume) -> tuple[sitk.Image, int]:
    """The image to hand to the resampler with its interpolator: B-spline coefficients computed once for all slices,
    or the pixels themselves where there are too few slices to fit a cubic spline."""
    image = _like(sitk.GetImageFromArray(reference.pixels), reference)
    if min(reference.pixels.shape) < 4:
        return image, sitk.sitkLinear
    return sitk.BSplineDecomposition(image, 3), sitk.sitkBSplineResamplerOrder3


def _like(image: sitk.Image, volume: Volume) -> sitk.Image:
    """Give an (n, rows, columns) image the place of `volume`."""
    step = _step(volume)
    distance = float(np.linalg.norm(step))
    image.SetOrigin(volume.positions[0].tolist())
    image.SetSpacing((volume.spacing[1], volume.spacing[0], distance))
    image.SetDirection(_direction(*volume.orientation, step / distance))
    return image


def _columns(volume: Volume) -> NDArray[np.float64]:
    """(3, 3) matrix from (column, row, slice) index to mm, less the position of the first pixel."""
    along_row, along_column = np.array(volume.orientation)
    return np.column_stack([volume.spacing[1] * along_row, volume.spacing[0] * along_column, _step(volume)])


def _step(volume: Volume) -> NDArray[np.float64]:
    """Vector from one slice to the next; of a lone slice, its thickness."""
    n = len(volume.positions)
    if n == 1:
        return volume.slice_thickness * volume.normal
    step: NDArray[np.float64] = (volume.positions[-1] - volume.positions[0]) / (n - 1)
    return step


def _direction(along_row: Vector, along_column: Vector, across: NDArray[np.float64]) -> list[float]:
    """SimpleITK's direction: the axes as columns of a matrix, read row by row."""
    return [float(v) for v in np.column_stack([along_row, along_column, across]).ravel()]
