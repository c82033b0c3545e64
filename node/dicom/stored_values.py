"""Stored pixel values of a result: 16 bits, unsigned, with one intensity factor for the whole series."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from node.dicom.attributes import Attributes

SHOWN_PERCENTILES = (1, 99.5)
LEAST_SEEN = 0.1  # part of the range of intensities that a window must show, not as plain black and plain white
WIDEST = 8  # times that range: a wider window shows the image in an eighth of the greys

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


def shown_range(pixels: NDArray[np.float32]) -> tuple[float, float]:
    """The intensities between which nearly all pixels of a series (n, h, w) are, (0, 1) of an empty one. Every fourth pixel
    along both axes is enough for that: those are the places of the target's pixels."""
    low, high = np.percentile(pixels[:, ::4, ::4], SHOWN_PERCENTILES)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def window(source: Dataset, factor: float, shown: tuple[float, float]) -> tuple[float, float]:
    """(center, width) in our stored values: the first window of the source (PS3.3 C.11.2) where it shows the image, else one
    over the `shown_range` of the series. Software without a window writes placeholders, such as 0 and 1, or 32768 and 65536."""
    low, high = shown
    found = None if source.get("PhotometricInterpretation") == "MONOCHROME1" else _window_of(source)
    if found is not None:
        center, width = found
        seen = (min(center + width / 2, high) - max(center - width / 2, low)) / (high - low)
        if seen >= LEAST_SEEN and width <= WIDEST * (high - low):
            return center * factor, width * factor
    return (low + high) / 2 * factor, max((high - low) * factor, 1.0)


def _window_of(source: Dataset) -> tuple[float, float] | None:
    a = Attributes(source)
    center, width = a.number("WindowCenter"), a.number("WindowWidth")
    return None if center is None or width is None or width <= 0 else (center, width)


def decimals(values: Iterable[float] | NDArray[np.float64]) -> list[str]:
    """Decimal strings (at most 16 characters) nearest to the values."""
    return [format_number_as_ds(float(value)) for value in values]
