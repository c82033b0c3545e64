"""The degradation, and the estimate of what a scanner zero-filled."""

import numpy as np
import pytest
import torch

from diffmsr import kspace
from diffmsr.data import Slice, degrade, subject_bandwidth
from diffmsr.data.degradation import smooth_phase
from tests.unit.diffmsr.data.images import phantom


def test_degradation_keeps_the_mean_and_follows_its_seed() -> None:
    truth = torch.from_numpy(phantom())
    low, again, other = (degrade(truth, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert low.shape == (32, 32)
    assert torch.equal(low, again) and not torch.equal(low, other)
    assert float(low.mean()) == pytest.approx(float(truth.mean()), rel=0.1)
    noisy = degrade(truth, np.random.default_rng(1), noise=0.05)
    assert 0.01 < float((noisy - low).std()) < 0.1


def test_the_phase_is_smooth() -> None:
    phase = smooth_phase(100, 120, np.random.default_rng(0))
    assert float(torch.diff(phase, dim=0).abs().max()) < 0.3
    assert float(phase.std()) > 0.1


def test_bandwidth_finds_what_the_scanner_zero_filled() -> None:
    full = phantom()
    half = kspace.crop(torch.from_numpy(full), 128, 70)
    filled = kspace.zero_fill(half, 128, 128).real.numpy()
    subject = {"full": full, "filled": filled}
    pieces = [Slice("x", "x", 0, "train", {name: image.astype(np.float16) for name, image in subject.items()})]
    assert subject_bandwidth(pieces, "full") > 0.95
    assert subject_bandwidth(pieces, "filled") == pytest.approx(70 / 128, abs=0.08)


def test_a_complex_image_keeps_its_own_phase() -> None:
    truth = torch.from_numpy(phantom())
    turned = truth * torch.exp(1j * smooth_phase(128, 128, np.random.default_rng(3)))
    drawn = degrade(truth, np.random.default_rng(3))
    assert torch.allclose(degrade(turned, np.random.default_rng(0)), drawn, atol=1e-5)
