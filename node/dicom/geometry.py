"""Where images are in the patient: the one arithmetic of matching, reading and resampling (PS3.3 C.7.6.2.1.1).

Coordinates and distances are in mm, in the patient's coordinate system. An orientation is the direction along a row, then
the direction along a column. A spacing is (between rows, between columns) as PixelSpacing (0028,0030). The centre of pixel
(row, column) of a slice is its position + column * spacing[1] * orientation[0] + row * spacing[0] * orientation[1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
"""One or more points or directions, (..., 3), or numbers of the shape that is stated."""
Direction = tuple[float, float, float]
Orientation = tuple[Direction, Direction]

UNIT_TOLERANCE = 1e-2
"""Headers round direction cosines. A dot product further than this from 0 or 1 means that they are not an orientation."""


def is_orientation(cosines: Sequence[float]) -> bool:
    """Whether six direction cosines are two orthogonal unit vectors, as far as headers are exact."""
    axes = np.reshape(cosines, (2, 3))
    with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers overflow, and are then no orientation
        products = axes @ axes.T
    return bool(np.allclose(products, np.eye(2), atol=UNIT_TOLERANCE))


def orthonormal(cosines: Sequence[float]) -> Orientation:
    """Six direction cosines that `is_orientation` accepts, made exactly orthogonal and of length 1. The direction along a
    row stays."""
    row, column = np.reshape(np.asarray(cosines, dtype=np.float64), (2, 3))
    row = row / np.linalg.norm(row)
    column = column - np.dot(column, row) * row
    column = column / np.linalg.norm(column)
    return _direction(row), _direction(column)


def normal_of(orientation: ArrayLike) -> Vector:
    """The slice normal of an orientation, (6,) or (2, 3): along a row cross along a column, of length 1."""
    normal = np.cross(*np.reshape(orientation, (2, 3)))
    return np.asarray(normal / np.linalg.norm(normal))


def angle_between(a: Vector, b: Vector) -> float:
    """Degrees between two slice normals, 0 to 90: a stack numbered from the other end is parallel all the same."""
    # atan2 keeps its accuracy near 0, where acos of a rounded cosine has none.
    sine, cosine = np.linalg.norm(np.cross(a, b)), abs(float(a @ b))
    return float(np.degrees(np.arctan2(sine, cosine)))


def pixel_axes(orientation: ArrayLike, spacing: tuple[float, float]) -> tuple[Vector, Vector]:
    """The vectors from a pixel to the next in its row, and to the next in its column."""
    along_row, along_column = np.reshape(orientation, (2, 3))
    return spacing[1] * along_row, spacing[0] * along_column


def slice_step(positions: Vector, normal: Vector, slice_thickness: float) -> Vector:
    """The vector from a slice to the next, of slices (n, 3) in order; of a lone slice, its thickness along the normal."""
    n = len(positions)
    if n == 1:
        return slice_thickness * normal
    step: Vector = (positions[-1] - positions[0]) / (n - 1)
    return step


def voxel_axes(orientation: ArrayLike, spacing: tuple[float, float], step: Vector) -> Vector:
    """(3, 3) matrix from (column, row, slice) index to mm, less the position of the first pixel."""
    return np.column_stack([*pixel_axes(orientation, spacing), step])


def voxel_extent(axes: Vector, direction: Vector) -> float:
    """Extent of a voxel of those axes along a unit vector: its spacing along one of its axes, a value in between
    otherwise."""
    return float(1 / np.linalg.norm(np.linalg.solve(axes, direction)))


def finer_grid(
    positions: Vector, orientation: ArrayLike, spacing: tuple[float, float], scale: int, offset: float
) -> tuple[Vector, tuple[float, float]]:
    """(positions, spacing) of slices whose pixels are divided `scale` times in-plane.

    `offset` is the manifest's grid offset d, the position of the first fine pixel in units of a coarse pixel. It is 0 for a
    model trained on centred k-space truncation, whose fine and coarse grids start at the same point, and
    (1 - scale) / (2 * scale) for a model trained on averaged pixels, whose grids share their outer edge.
    """
    along_row, along_column = pixel_axes(orientation, spacing)
    return positions + offset * (along_row + along_column), (spacing[0] / scale, spacing[1] / scale)


@dataclass(frozen=True)
class StackGeometry:
    """Where the slices of a stack are, as their headers say it."""

    orientation: tuple[float, ...]
    """Direction cosines: along a row, then along a column."""
    positions: tuple[tuple[float, ...], ...]
    """Centre of the first pixel of each slice, in order along the normal."""
    spacing: tuple[float, float]
    rows: int
    columns: int
    slice_thickness: float | None
    spacing_between_slices: float | None

    @cached_property
    def normal(self) -> Vector:
        return normal_of(self.orientation)

    @cached_property
    def depths(self) -> Vector:
        """Distance of each slice along the normal, (n,)."""
        return np.asarray(self.positions) @ self.normal

    @cached_property
    def steps(self) -> Vector:
        """Distance of each slice from the one before, (n - 1,)."""
        return np.diff(self.depths)

    @property
    def step(self) -> float | None:
        """The usual distance between slices; None of a single slice."""
        return float(np.median(self.steps)) if len(self.steps) else None

    @property
    def voxel(self) -> tuple[float, float, float]:
        """Extent along a column, along a row and across the slices: there the larger of slice thickness and distance,
        since a gap shows nothing and an overlap nothing new."""
        return *self.spacing, max(self.slice_thickness or 0.0, self.step or 0.0)

    def at(self, row: ArrayLike, column: ArrayLike) -> Vector:
        """Patient coordinates of pixel indices, of every slice: shape (slices, *indices, 3)."""
        along_row, along_column = pixel_axes(self.orientation, self.spacing)
        offset = np.multiply.outer(np.asarray(column), along_row) + np.multiply.outer(np.asarray(row), along_column)
        origins = np.asarray(self.positions)
        return np.asarray(origins.reshape(len(origins), *[1] * (offset.ndim - 1), 3) + offset)

    def pixel_of(self, points: Vector) -> tuple[Vector, Vector]:
        """(row, column) indices, in fractions, of patient coordinates projected onto the first slice."""
        along_row, along_column = np.reshape(self.orientation, (2, 3))
        offset = points - np.asarray(self.positions[0])
        return offset @ along_column / self.spacing[0], offset @ along_row / self.spacing[1]


def _direction(v: Vector) -> Direction:
    return float(v[0]), float(v[1]), float(v[2])
