"""The quality of a result as far as it can be measured without the truth: per slice, and graded by thresholds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from node.config.settings import ReportSettings
from node.result import Quality, Registration


def intensity_drift(images: NDArray[np.float32], low: NDArray[np.float32]) -> list[float]:
    """Mean of each image (n, H, W) over the mean of the measured low-resolution image (n, h, w), minus 1; 0 where nothing
    was measured. The zero-filled image has the mean of the measured one."""
    measured = low.mean(axis=(1, 2), dtype=np.float64)
    means = images.mean(axis=(1, 2), dtype=np.float64)
    return [float(v) for v in np.divide(means, measured, out=np.ones_like(means), where=measured > 0) - 1]


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
