"""Grids of slices in the patient's coordinate system, and the reference resampled onto the target's fine grid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813
from einops import reduce
from numpy.typing import NDArray

from node.dicom.geometry import Direction, finer_grid, slice_step, voxel_axes, voxel_extent
from node.infer.volume import Volume


@dataclass(frozen=True)
class Reference:
    """The reference as input of the model: one fine-grid slice per target slice.

    pixels: (n, scale * rows, scale * columns) float32; 0 where the reference does not reach.
    reached: (n, scale * rows, scale * columns) bool, where it reaches.
    coverage: (n,) share of each slice's pixels that the reference reaches, 0 to 1.
    slices: for each slice, the indices of the reference slices that contain or enclose its pixels.
    """

    pixels: NDArray[np.float32]
    reached: NDArray[np.bool_]
    coverage: NDArray[np.float64]
    slices: list[list[int]]


def resample_reference(reference: Volume, target: Volume, scale: int, offset: float) -> Reference:
    """Resample `reference` onto the fine grid of every slice of `target`, whatever the angle between them.

    At a point: cubic B-spline. It leaves a reference that is already on that grid unchanged and, unlike linear
    interpolation, keeps the fine detail that the model needs. It is clipped to the reference's range, since it can
    overshoot. A voxel of the result, as thick as the target's slices, is the mean over points as far apart as the
    reference's own voxels in that direction: a thick slice shows that mean, and detail finer than the result's pixels
    must not alias. Along a side shorter than the reference's voxels a single point is taken.
    Target slices must be parallel and reference slices equally spaced; matching has checked both.
    """
    positions, spacing = finer_grid(target.positions, target.orientation, target.spacing, scale, offset)
    rows, columns = scale * target.pixels.shape[1], scale * target.pixels.shape[2]
    axes = np.column_stack([*target.orientation, target.normal])
    own = voxel_axes(reference.orientation, reference.spacing, _step(reference))
    sides = np.array([spacing[1], spacing[0], target.slice_thickness])
    counts = [max(1, round(side / voxel_extent(own, axis))) for side, axis in zip(sides, axes.T, strict=True)]
    steps = sides / counts
    first_point = -axes @ (steps * (np.array(counts) - 1) / 2)
    across, down, planes = counts

    grid = sitk.ResampleImageFilter()
    grid.SetSize((columns * across, rows * down, planes))
    grid.SetOutputSpacing(steps.tolist())
    grid.SetOutputDirection(_direction(*axes.T))

    image, interpolator = _interpolable(reference)
    reached = _like(sitk.GetImageFromArray(np.ones(reference.pixels.shape, dtype=np.uint8)), reference)
    pixels = np.zeros((len(positions), rows, columns), dtype=np.float32)
    reaches = np.zeros(pixels.shape, dtype=np.bool_)
    slices = []
    for i, position in enumerate(positions):
        grid.SetOutputOrigin((position + first_point).tolist())
        grid.SetInterpolator(interpolator)
        grid.SetOutputPixelType(sitk.sitkFloat32)
        values = sitk.GetArrayFromImage(grid.Execute(image))
        grid.SetInterpolator(sitk.sitkNearestNeighbor)
        grid.SetOutputPixelType(sitk.sitkUInt8)
        inside = sitk.GetArrayFromImage(grid.Execute(reached)) > 0
        points = "planes (rows down) (columns across) -> rows columns"
        total = reduce(np.where(inside, values, 0), points, "sum", down=down, across=across)
        count = reduce(inside.astype(np.int64), points, "sum", down=down, across=across)
        pixels[i] = total / np.maximum(count, 1)
        reaches[i] = count > 0
        corners = [
            position + first_point + axes @ (np.array([c, r, p]) * steps)
            for c in (0, columns * across - 1)
            for r in (0, rows * down - 1)
            for p in (0, planes - 1)
        ]
        slices.append(_contributing(reference, corners) if reaches[i].any() else [])
    coverage = reaches.mean(axis=(1, 2), dtype=np.float64)
    return Reference(np.clip(pixels, 0, reference.pixels.max()), reaches, coverage, slices)


def _contributing(reference: Volume, corners: Sequence[NDArray[np.float64]]) -> list[int]:
    """The reference slices that contain or enclose a slab, given by its corners."""
    to_index = np.linalg.inv(voxel_axes(reference.orientation, reference.spacing, _step(reference)))
    indices = [float((to_index @ (corner - reference.positions[0]))[2]) for corner in corners]
    rounding = 1e-3  # of a slice: a plane on a reference slice belongs to that slice alone
    first = max(0, math.floor(min(indices) + rounding))
    last = min(len(reference.sop_uids) - 1, math.ceil(max(indices) - rounding))
    return list(range(first, last + 1))


def _interpolable(reference: Volume) -> tuple[sitk.Image, int]:
    """The image for the resampler and its interpolator: B-spline coefficients, computed once for all slices, or the pixels
    themselves where there are too few slices to fit a cubic spline."""
    image = _like(sitk.GetImageFromArray(reference.pixels), reference)
    if min(reference.pixels.shape) < 4:
        return image, sitk.sitkLinear
    return sitk.BSplineDecomposition(image, 3), sitk.sitkBSplineResamplerOrder3


def _like(image: sitk.Image, volume: Volume) -> sitk.Image:
    """Give an (n, rows, columns) image the position, orientation and spacing of `volume`."""
    step = _step(volume)
    distance = float(np.linalg.norm(step))
    image.SetOrigin(volume.positions[0].tolist())
    image.SetSpacing((volume.spacing[1], volume.spacing[0], distance))
    image.SetDirection(_direction(*volume.orientation, step / distance))
    return image


def _step(volume: Volume) -> NDArray[np.float64]:
    return slice_step(volume.positions, volume.normal, volume.slice_thickness)


def _direction(along_row: Direction, along_column: Direction, across: NDArray[np.float64]) -> list[float]:
    """SimpleITK's direction: the axes as columns of a matrix, read row by row."""
    return [float(v) for v in np.column_stack([along_row, along_column, across]).ravel()]
