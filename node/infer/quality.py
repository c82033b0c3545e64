"""The quality of a result as far as it can be measured without the truth: per slice, and graded by thresholds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from node.config.settings import ReportSettings
from node.result import Quality, Registration

FAINT = 2.5
"""Times the root mean square of the noise: fainter pixels of the measured image are air, or cannot be told from it."""
LEAST_SIGNAL = 0.05
"""Share of the pixels that are not faint in any stack of images. With less, the whole target is noise, and no excuse."""
DARK_SLICE = 0.05
"""Norm of a slice, over that of the brightest slice of its stack, below which there is nothing in it to judge by itself."""


def departures(images: NDArray[np.float32], low: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """How far a result (n, H, W) departs from the measured low-resolution images (n, h, w), as (inconsistency, drift) of each
    slice.

    The result is taken back to the measured k-space. Inconsistency is the norm of the difference over the norm of what was
    measured, by Parseval's theorem the same in k-space and in the image. Drift is the mean over the mean of what was measured,
    minus 1. The network takes noise away, which is no fault: where nothing but noise was measured only what was added
    counts, and elsewhere what the noise explains is subtracted. Magnitudes A with noise of deviation s, of n coils, depart
    from A by s, and are raised by (2 n - 1) s^2 / (2 A) (Gudbjartsson, Patz 1995; Constantinides et al. 1997).
    """
    # Imported here, since torch takes seconds and only the infer worker needs it.
    from diffmsr.acquisition import air_noise
    from diffmsr.acquisition.air import LIKELY
    from diffmsr.kspace import crop_to

    air = air_noise(low)
    deviation, coils, faint = 0.0, 1, 0.0
    if air is not None and air.confidence >= LIKELY and (low > FAINT * air.rms).mean() > LEAST_SIGNAL:
        deviation, coils, faint = air.deviation, air.coils, FAINT * air.rms
    largest = max(float(np.linalg.norm(slice_.astype(np.float64))) for slice_ in low)
    inconsistency, drift = [], []
    for image, stored in zip(images, low, strict=True):  # the k-space of a whole stack would take four times its memory
        measured, seen = stored.astype(np.float64), crop_to(image, *stored.shape).astype(np.float64)
        signal = measured > faint
        difference = np.where(signal, seen - measured, np.maximum(seen - faint, 0))
        energy = max(0.0, float(np.square(difference).sum()) - deviation**2 * int(signal.sum()))
        norm = max(float(np.linalg.norm(measured)), DARK_SLICE * largest)
        inconsistency.append(energy**0.5 / norm if norm else 0.0)
        brightness = max(float(measured[signal].sum()), DARK_SLICE * largest * measured.size**0.5)
        change = float(seen[signal].sum() - measured[signal].sum())
        raised = float(((2 * coils - 1) * deviation**2 / (2 * measured[signal])).sum())
        change = change if change > 0 else min(0.0, change + raised)
        drift.append(change / brightness if brightness else 0.0)
    return inconsistency, drift


def seed_spread(members: Sequence[NDArray[np.float32]]) -> list[float]:
    """For each image of an ensemble (n, H, W) the mean over pixels of the standard deviation, over its maximum."""
    deviation = np.std(np.stack(members), axis=0, dtype=np.float64).mean(axis=(1, 2))
    brightest = np.max(np.stack(members), axis=(0, 2, 3)).astype(np.float64)
    return [float(v) for v in np.divide(deviation, brightest, out=np.zeros_like(deviation), where=brightest > 0)]


def grade(
    consistency: list[float],
    drift: list[float],
    spread: list[float] | None,
    registration: Registration | None,
    settings: ReportSettings,
) -> Quality:
    """The quality record of a result, usable when no threshold is crossed."""
    reasons = [
        *_over("differ from the measured k-space by", consistency, settings.max_inconsistency),
        *_over("changed in mean intensity by", [abs(d) for d in drift], settings.max_intensity_drift),
        *_over("depend on the seed by", spread or [], settings.max_seed_spread),
    ]
    if registration is not None and registration.trusted and not registration.corrected:
        displacement, limit = registration.displacement_mm, settings.max_displacement_mm
        if displacement > limit:
            reasons.append(
                f"The reference was displaced by {displacement:.1f} mm from the target while it guided; a usable result "
                f"allows {limit:g} mm."
            )
    return Quality(consistency, drift, registration, spread, not reasons, reasons)


def _over(what: str, values: Sequence[float], limit: float) -> list[str]:
    over = [i for i, value in enumerate(values) if value > limit]
    if not over:
        return []
    worst = max(over, key=lambda i: values[i])
    return [
        f"{len(over)} of {len(values)} slices {what} more than {limit:.2g}, at worst slice {worst + 1}: "
        f"{values[worst]:.2g}."
    ]
