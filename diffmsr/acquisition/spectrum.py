"""The mean k-space energy of a stack, as lines from the centre outwards."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mean_energy(stack: NDArray[np.float32]) -> Floats:
    """Mean over slices (n, h, w) of the squared magnitude of their centred k-space: (h, w). Empty slices do not count.

    Each slice is divided by its root mean square first, so that every slice has the same weight.
    """
    total, counted = np.zeros(stack.shape[1:]), 0
    for image in stack:
        power = float(np.mean(np.square(image, dtype=np.float64)))
        if power > 0:
            total += np.abs(np.fft.fftshift(np.fft.fft2(image))) ** 2 / power
            counted += 1
    return total / max(1, counted)


def axis_profile(energy: Floats, axis: int, other_share: float) -> tuple[Floats, Floats]:
    """(frequencies in units of the stored edge, log energy) along an axis, both directions averaged.

    Lines are averaged over the central quarter of what was acquired of the other axis (`other_share` of it), beyond which an
    elliptical shutter may have cut them.
    """
    lines = energy if axis == 0 else energy.T
    n, m = lines.shape
    reach = max(1, round(m * other_share / 8))
    along = lines[:, m // 2 - reach : m // 2 + reach + 1].mean(axis=1)
    length = (n - 1) // 2
    outward, inward = along[n // 2 + 1 : n // 2 + 1 + length], along[n // 2 - length : n // 2][::-1]
    return np.arange(1, length + 1) / (n / 2), np.log((outward + inward) / 2 + 1e-30)


def diagonal_profile(energy: Floats, acquired: tuple[int, int], rings: int) -> tuple[Floats, Floats]:
    """(radii, log energy) in the directions between the axes, in units of the acquired extents: from 0 to 1.4142, where
    the corner of the acquired rectangle is. Rings without a sample are left out."""
    y, x = (np.abs(np.arange(n) - n // 2) / (a / 2) for n, a in zip(energy.shape, acquired, strict=True))
    radius = np.hypot(y[:, None], x[None, :])
    slope = np.minimum(y[:, None], x[None, :]) / np.maximum(np.maximum(y[:, None], x[None, :]), 1e-9)
    inside = (slope > 0.7) & (y[:, None] < 1) & (x[None, :] < 1)
    ring = np.minimum((radius / np.sqrt(2) * rings).astype(int), rings - 1)
    sums = np.bincount(ring[inside], energy[inside], minlength=rings)
    counts = np.bincount(ring[inside], minlength=rings)
    seen = counts > 0
    radii = np.bincount(ring[inside], radius[inside], minlength=rings)[seen] / counts[seen]
    return radii, np.log(sums[seen] / counts[seen] + 1e-30)
