"""The quality of a result, measured without the truth."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diffmsr.baselines import zero_filled
from node.config.settings import ReportSettings
from node.infer.quality import departures, grade, seed_spread
from node.result import Registration

BESIDE = Registration((3.0, 0.0), 0.0, trusted=True, corrected=False, displacement_mm=3.0, spread_mm=0.1)


def stack_of(*slices: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack(slices).astype(np.float32)


def test_drift_is_relative_to_the_measured_mean_and_air_drifts_not() -> None:
    low = stack_of(np.full((4, 4), 10.0), np.full((4, 4), 10.0), np.zeros((4, 4)))
    high = stack_of(np.full((16, 16), 10.0), np.full((16, 16), 9.0), np.zeros((16, 16)))
    assert departures(high, low, low)[1] == pytest.approx([0, -0.1, 0])


def test_what_keeps_the_measured_kspace_is_consistent_and_what_adds_to_it_is_not() -> None:
    low = np.random.default_rng(0).random((2, 13, 11), dtype=np.float32) + 5  # odd: no frequency at the very edge
    high = zero_filled(low, 4)
    fine = np.where(np.indices(high.shape)[2] % 2, 1, -1).astype(np.float32)  # a frequency nobody measured
    assert departures(high, low, low)[0] == pytest.approx([0, 0], abs=1e-5)
    assert departures(high + fine, low, low)[0] == pytest.approx([0, 0], abs=1e-5)
    assert departures(high * 1.2, low, low)[0] == pytest.approx([0.2, 0.2], abs=1e-5)
    assert departures(np.zeros_like(high), np.zeros_like(low), low) == ([0, 0], [0, 0])


def noisy_head(deviation: float, coils: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(three slices without noise, the same as magnitudes of that many coils with noise), a bright disc in air."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    quiet = stack_of(*[np.where(x**2 + y**2 < 0.5, 0.6 + 0.3 * np.cos(9 * x + i) * np.cos(7 * y), 0) for i in range(3)])
    return quiet, noisy(quiet, deviation, coils)


def noisy(quiet: NDArray[np.float32], deviation: float, coils: int = 1) -> NDArray[np.float32]:
    channels = np.random.default_rng(3).normal(0, deviation, (2 * coils, *quiet.shape))
    channels[0] += quiet
    return np.sqrt(np.square(channels).sum(axis=0)).astype(np.float32)


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("deviation", [0.01, 0.03, 0.06])
def test_noise_that_was_removed_is_no_fault(deviation: float, coils: int) -> None:
    quiet, measured = noisy_head(deviation, coils)
    inconsistency, drift = departures(zero_filled(quiet, 4), measured, measured)
    assert max(inconsistency) < 0.06
    assert max(map(abs, drift)) < 0.02
    kept_inconsistency, kept_drift = departures(zero_filled(measured, 4), measured, measured)
    assert max(kept_inconsistency) < 0.06
    assert max(map(abs, kept_drift)) < 0.02


def test_noise_excuses_neither_a_darker_head_nor_something_in_the_air_nor_a_target_of_noise() -> None:
    quiet, measured = noisy_head(0.03)
    assert max(departures(zero_filled(0.85 * quiet, 4), measured, measured)[1]) < -0.1
    dim = quiet.copy()
    dim[:, 20:44, 20:44] *= 0.2  # faint beside the noise, and then left out
    without = np.where(dim < 0.2, 0, dim)
    as_measured = noisy(dim, 0.03)
    kept, lost = (departures(zero_filled(image, 4), as_measured, as_measured)[0] for image in (dim, without))
    assert min(lost) > 0.08 > 3 * max(kept)
    with_a_ghost = quiet.copy()
    with_a_ghost[:, 2:12, 2:30] = 0.8
    assert min(departures(zero_filled(with_a_ghost, 4), measured, measured)[0]) > 0.3
    nothing = np.hypot(*np.random.default_rng(1).normal(0, 1, (2, 3, 64, 64))).astype(np.float32)
    assert min(departures(np.zeros((3, 256, 256), np.float32), nothing, nothing)[0]) > 0.9


def test_a_slice_with_hardly_anything_in_it_is_judged_by_the_stack() -> None:
    low = stack_of(np.full((8, 8), 10.0), np.full((8, 8), 0.1))
    high = zero_filled(low * np.array([1, 0], np.float32)[:, None, None], 4)
    inconsistency, drift = departures(high, low, low)
    assert max(inconsistency) < 0.21
    assert min(drift) > -0.21


def test_spread_is_that_of_the_pixels_over_the_brightest() -> None:
    one = np.full((2, 8, 8), 5.0, np.float32)
    assert seed_spread([one, one]) == [0, 0]
    assert seed_spread([one - 1, one + 1]) == pytest.approx([1 / 6] * 2)


GRADES: list[tuple[str, dict[str, Any], str | None]] = [
    ("good", {}, None),
    ("inconsistent", {"consistency": [0.05, 0.3]}, "1 of 2 slices differ from the measured k-space by more than 0.15, at worst slice 2: 0.3."),
    ("darker", {"drift": [-0.2, -0.08]}, "2 of 2 slices changed in mean intensity by more than 0.07, at worst slice 1: 0.2."),
    ("wavering", {"spread": [0.0, 0.02]}, "1 of 2 slices depend on the seed by more than 0.01, at worst slice 2: 0.02."),
    ("beside", {"registration": BESIDE}, "The reference was displaced by 3.0 mm from the target while it guided; a usable result allows 2 mm."),
    ("beside, but moved", {"registration": replace(BESIDE, corrected=True)}, None),
    ("beside, perhaps", {"registration": replace(BESIDE, trusted=False)}, None),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "reason"), [g[1:] for g in GRADES], ids=[g[0] for g in GRADES])
def test_a_threshold_crossed_is_a_reason(changes: dict[str, Any], reason: str | None) -> None:
    facts: dict[str, Any] = {"consistency": [0.03, 0.05], "drift": [-0.01, 0.0], "spread": None, "registration": None}
    quality = grade(**(facts | changes), settings=ReportSettings())
    assert quality.usable == (reason is None)
    assert quality.reasons == ([reason] if reason else [])
