"""Training samples: aligned, and varied as configured."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffmsr import kspace
from diffmsr.data import Augmentation, DataError, Slice, training_sample
from tests.unit.diffmsr.data.images import phantom


def test_a_training_sample_is_aligned() -> None:
    """The zero-filled image resembles the truth of its patch, on the grid: pixel 4 i is the low-resolution pixel i."""
    smooth = kspace.zero_fill(torch.from_numpy(phantom(32, 40)), 128, 160).real.clamp_min(0).numpy()
    piece = Slice("x", "x", 0, "train", {"T2": smooth.astype(np.float16), "T1": smooth.astype(np.float16)})
    for seed in range(8):
        low, truth, reference, skip, _ = training_sample(piece, 64, np.random.default_rng(seed), Augmentation())
        assert low.shape == (16, 16) and truth.shape == reference.shape == skip.shape == (64, 64)
        assert torch.allclose(skip[::4, ::4], low, atol=1e-4)
        assert float((skip - truth).square().mean().sqrt()) < 0.2 * float(truth.std())


def anatomy(rows: int = 128, columns: int = 160) -> np.ndarray:
    """Something smooth enough to be moved by a part of a pixel."""
    return kspace.zero_fill(torch.from_numpy(phantom(rows // 4, columns // 4)), rows, columns).real.clamp_min(0).numpy()


def references(seeds: range, **changes: float) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The reference of the same samples without augmentation, and with these."""
    none = Augmentation(deployed_roles=1, gamma=0, inversion=0, noise=0, misplacement=0, dropout=0)
    piece = Slice("x", "x", 0, "train", {"T2": anatomy().astype(np.float16), "T1": anatomy().astype(np.float16)})
    for seed in seeds:
        plain, augmented = (
            training_sample(piece, 64, np.random.default_rng(seed), augmentation)
            for augmentation in (none, replace(none, **changes))
        )
        assert all(torch.equal(plain[i], augmented[i]) for i in (0, 1, 3))
        yield plain[2], augmented[2]


def test_a_reference_is_misplaced_by_no_more_than_configured() -> None:
    inner = np.s_[8:-8, 8:-8]
    for plain, moved in references(range(6), misplacement=1, shift=2, rotation=0):
        errors = {
            (dy, dx): float((moved.roll((dy, dx), (0, 1)) - plain)[inner].square().mean())
            for dy in range(-4, 5)
            for dx in range(-4, 5)
        }
        dy, dx = min(errors, key=errors.__getitem__)
        assert abs(dy) <= 2 and abs(dx) <= 2
        assert not torch.equal(plain, moved)
    for plain, moved in references(range(3), misplacement=1, shift=0, rotation=0):
        assert torch.allclose(plain, moved, atol=1e-4)
    for plain, turned in references(range(3), misplacement=1, shift=0, rotation=2):
        error = (plain - turned).abs()
        assert float(error[24:40, 24:40].mean()) < 0.7 * float(error.mean())


def test_a_reference_is_dropped_in_its_share() -> None:
    assert all(not dropped.any() for _, dropped in references(range(4), dropout=1))
    share = np.mean([not dropped.any() for _, dropped in references(range(60), dropout=0.5)])
    assert 0.25 < share < 0.75


def test_a_slice_smaller_than_the_patch_is_an_error() -> None:
    piece = Slice("x", "patient-a", 0, "train", {"T2": phantom(64, 128), "T1": phantom(64, 128)})
    with pytest.raises(DataError, match=r"patient-a: slices of \(64, 128\) cannot give patches of 128"):
        training_sample(piece, 128, np.random.default_rng(0), Augmentation())


def test_a_complex_sample_is_the_magnitude_one_with_its_phase() -> None:
    piece = Slice("x", "x", 0, "train", {"T2": phantom(), "T1": phantom(seed=1)})
    for own in (False, True):
        if own:
            turned = phantom() * np.exp(1j * np.linspace(0, 3, 128)).astype(np.complex64)
            piece = replace(piece, images={"T2": turned, "T1": phantom(seed=1)})
        augmentation = Augmentation(deployed_roles=1, noise=0)
        magnitude, full = (
            training_sample(piece, 64, np.random.default_rng(4), augmentation, kind)
            for kind in ("magnitude", "complex")
        )
        assert [part.is_complex() for part in full] == [True, True, False, True, False]
        assert torch.allclose(full[0].abs(), magnitude[0], atol=1e-5)
        assert torch.allclose(full[1].abs(), magnitude[1], atol=1e-5)
        assert torch.equal(full[2], magnitude[2])
        assert torch.allclose(full[3][::4, ::4], full[0], atol=1e-4)
        assert float(full[1].angle().std()) > 0.1
