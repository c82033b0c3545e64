"""The quality of a result as far as it can be measured without the truth: per slice, and graded by thresholds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from node.config.settings import ReportSettings
from node.result import Quality, Registration

FAINT = 2.5
"""Times the root mean square of the noise: fainter pixels, on average of measured image and result, are air, or cannot be
told from it."""
SLACK = 1.3
"""How much more energy than the mean of the stack's air the noise of a slice may have."""
LEAST_SIGNAL = 0.05
"""Share of the pixels that are not faint in any stack of images. With less, the whole target is noise, and no excuse."""
DARK_SLICE = 0.05
"""Norm of a slice, over that of the brightest slice of its stack, below which there is nothing in it to judge by itself."""


def departures(
    images: NDArray[np.float32], low: NDArray[np.float32], stored: NDArray[np.float32]
) -> tuple[list[float], list[float]]:
    """How far a result (n, H, W) departs from the measured low-resolution images (n, h, w), as (inconsistency, drift) of each
    slice. `stored` are the latter as the scanner stored them, before anything was undone: their air shows noise as it is.

    The result is taken back to the measured k-space. Inconsistency is the norm of the difference over the norm of what was
    measured, by Parseval's theorem the same in k-space and in the image. Drift is the mean over the mean of what was measured,
    minus 1. The network removes noise, which is not a fault: where nothing but noise was measured only what was added
    counts, and elsewhere what the noise explains is subtracted. Magnitudes A with noise of deviation s, of n coils, depart
    from A by s, and are raised by (2 n - 1) s^2 / (2 A) (Gudbjartsson, Patz 1995; Constantinides et al. 1997).
    """
    # Imported here, since torch takes seconds and only the infer worker needs it.
    from diffmsr.acquisition import air_noise
    from diffmsr.kspace import crop_to

    air, left = air_noise(stored), air_noise(low)  # of the noise in the air, undoing changes the level and the shape
    rms, coils = 0.0, 1
    if air and left and air.is_noise and (low > FAINT * left.rms).mean() > LEAST_SIGNAL:
        rms, coils = left.rms, air.coils
    largest = max(float(np.linalg.norm(measured.astype(np.float64))) for measured in low)
    both = []
    # Slice by slice: the k-space of a whole stack would take four times its memory.
    for image, measured in zip(images, low, strict=True):
        seen = crop_to(image, *measured.shape).astype(np.float64)
        both.append(_departures(seen, measured.astype(np.float64), rms, coils, DARK_SLICE * largest))
    return [one for one, _ in both], [other for _, other in both]


def _departures(
    seen: NDArray[np.float64], measured: NDArray[np.float64], rms: float, coils: int, least: float
) -> tuple[float, float]:
    """(inconsistency, drift) of a slice seen at low resolution, of a norm that counts as at least `least`. In air, the noise
    has a root mean square of `rms`."""
    faint, variance = FAINT * rms, rms**2 / (2 * coils)
    signal = (measured + seen) / 2 > faint  # the measured image alone would choose pixels that noise has raised
    difference, bright = seen - measured, measured[signal]
    norm = max(float(np.linalg.norm(measured)), least)
    if norm == 0:
        return 0.0, 0.0
    energy = max(0.0, float((np.square(difference[signal]) - variance).sum()))
    energy += max(
        0.0,
        float((np.square(difference[~signal]) - SLACK * rms**2).sum()),
        float(np.square(np.maximum(seen[~signal] - faint, 0)).sum()),
    )
    change = float(difference[signal].sum())
    if change < 0 and rms:
        change = min(0.0, change + float(((2 * coils - 1) * variance / (2 * np.maximum(bright, rms))).sum()))
    return energy**0.5 / norm, change / max(float(bright.sum()), least * measured.size**0.5)


def seed_spread(members: Sequence[NDArray[np.float32]]) -> list[float]:
    """For each image of an ensemble (n, H, W) the mean over pixels of the standard deviation, over its maximum."""
    deviation = np.std(np.stack(members), axis=0, dtype=np.float64).mean(axis=(1, 2))
    brightest = np.max(np.stack(members), axis=(0, 2, 3)).astype(np.float64)
    return [float(v) for v in np.divide(deviation, brightest, out=np.zeros_like(deviation), where=brightest > 0)]


def trust_figures(images: NDArray[np.float32], expected: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """(mean expected error of the tissue over its mean intensity, share of unsure tissue) of each slice (n, H, W)."""
    from diffmsr.trust import summarise

    summary = summarise(images, expected)
    return summary.expected, summary.unsure


def grade(
    consistency: list[float],
    drift: list[float],
    spread: list[float] | None,
    registration: Registration | None,
    settings: ReportSettings,
    trust: tuple[list[float], list[float]] | None = None,
) -> Quality:
    """The quality record of a result, usable when no threshold is crossed."""
    expected, unsure = trust or (None, None)
    reasons = [
        *_over("differ from the measured k-space by", consistency, settings.max_inconsistency),
        *_over("changed in mean intensity by", [abs(d) for d in drift], settings.max_intensity_drift),
        *_over("depend on the seed by", spread or [], settings.max_seed_spread),
        *_over(
            "have an expected error, over the intensity of their tissue, of",
            expected or [],
            settings.max_expected_error,
        ),
    ]
    if registration is not None and registration.trusted and not registration.corrected:
        displacement, limit = registration.displacement_mm, settings.max_displacement_mm
        if displacement > limit:
            reasons.append(
                f"The reference was displaced by {displacement:.1f} mm from the target while it guided; a usable result "
                f"allows {limit:g} mm."
            )
    return Quality(consistency, drift, registration, spread, not reasons, reasons, expected, unsure)


def _over(what: str, values: Sequence[float], limit: float) -> list[str]:
    over = [i for i, value in enumerate(values) if value > limit]
    if not over:
        return []
    worst = max(over, key=lambda i: values[i])
    return [
        f"{len(over)} of {len(values)} slices {what} more than {limit:.2g}, at worst slice {worst + 1}: "
        f"{values[worst]:.2g}."
    ]
