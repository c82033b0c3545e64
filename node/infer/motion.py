"""A motion of a stack within its planes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Motion:
    """A rigid motion within the planes of a stack: a point p, relative to the centre of the field of view, goes to
    rotation(p) + shift.

    The centre is half a field of view from the centre of the first pixel. This is the same place on the grids of the
    target, of the result and of the compared images, which share their first pixel but no other centre.
    """

    shift_mm: tuple[float, float] = (0.0, 0.0)
    """Along a row, along a column."""
    rotation_deg: float = 0.0
    """From the direction along a row towards that along a column."""

    def of(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the motion takes points (n, 2), each (along a row, along a column) in mm from the centre."""
        angle = math.radians(self.rotation_deg)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return np.asarray(points @ turn.T + self.shift_mm)

    def __str__(self) -> str:
        along_row, along_column = self.shift_mm
        return f"{along_row:.3f} mm along a row, {along_column:.3f} mm along a column, {self.rotation_deg:.3f} degrees"
