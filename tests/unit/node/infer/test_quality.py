"""The quality of a result, measured without the truth."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from diffmsr.baselines import zero_filled
from diffmsr.kspace import inconsistency
from node.config.settings import ReportSettings
from node.infer.quality import grade, intensity_drift, seed_spread
from node.result import Registration

BESIDE = Registration((3.0, 0.0), 0.0, trusted=True, corrected=False, displacement_mm=3.0, spread_mm=0.1)


def test_drift_is_relative_to_the_measured_mean_and_air_drifts_not() -> None:
    low = np.stack([np.full((4, 4), 10.0), np.full((4, 4), 10.0), np.zeros((4, 4))]).astype(np.float32)
    high = np.stack([np.full((16, 16), 10.0), np.full((16, 16), 9.0), np.zeros((16, 16))]).astype(np.float32)
    assert intensity_drift(high, low) == pytest.approx([0, -0.1, 0])


def test_spread_is_that_of_the_pixels_over_the_brightest() -> None:
    one = np.full((2, 8, 8), 5.0, np.float32)
    assert seed_spread([one, one]) == [0, 0]
    assert seed_spread([one - 1, one + 1]) == pytest.approx([1 / 6] * 2)


def test_what_keeps_the_measured_kspace_is_consistent_and_what_adds_to_it_is_not() -> None:
    low = np.random.default_rng(0).random((2, 13, 11), dtype=np.float32) + 5  # odd: no frequency at the very edge
    high = zero_filled(low, 4)
    fine = np.where(np.indices(high.shape)[2] % 2, 1, -1).astype(np.float32)  # a frequency nobody measured
    assert inconsistency(high, low) == pytest.approx([0, 0], abs=1e-5)
    assert inconsistency(high + fine, low) == pytest.approx([0, 0], abs=1e-5)
    assert inconsistency(high * 1.2, low) == pytest.approx([0.2, 0.2], abs=1e-5)
    assert inconsistency(np.zeros_like(high), np.zeros_like(low)).tolist() == [0, 0]


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
