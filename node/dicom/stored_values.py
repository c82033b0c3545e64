"""Stored pixel values of a result: 16 bits, unsigned, with one intensity factor for the whole series."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

STORED_MAX = 65535
_FAINTEST_PEAK = 1024
"""A series whose brightest pixel is below this would lose visible detail to rounding, so it is scaled up."""


def intensity_factor(pixels: NDArray[np.float32]) -> float:
    """The factor for intensities before they are rounded to 16 bits. It is 1 where the unit of the sources fits, so that
    values stay comparable with them, else the power of two that brings the brightest pixel into range."""
    peak = float(pixels.max())
    if peak > STORED_MAX:
        return float(2.0 ** math.floor(math.log2(STORED_MAX / peak)))
    if 0 < peak < _FAINTEST_PEAK:
        return float(2.0 ** math.ceil(math.log2(_FAINTEST_PEAK / peak)))
    return 1.0


def stored_values(pixels: NDArray[np.float32], factor: float) -> NDArray[np.uint16]:
    """The stored values of one slice, (rows, columns)."""
    stored: NDArray[np.uint16] = np.clip(np.rint(pixels * factor), 0, STORED_MAX).astype("<u2")
    return stored


def window(source: Dataset, factor: float) -> tuple[float, float] | None:
    """The first window of the source (PS3.3 C.11.2), in our stored values; None where it has none that applies to them."""
    if source.get("PhotometricInterpretation") == "MONOCHROME1":
        return None
    try:
        center, width = (
            np.atleast_1d(np.asarray(source[k].value, dtype=float))[0] for k in ("WindowCenter", "WindowWidth")
        )
    except (KeyError, ValueError, TypeError, IndexError):
        return None
    return (center * factor, width * factor) if width > 0 and np.isfinite([center, width]).all() else None


def decimals(values: Iterable[float] | NDArray[np.float64]) -> list[str]:
    """Decimal strings (at most 16 characters) nearest to the values."""
    return [format_number_as_ds(float(value)) for value in values]
