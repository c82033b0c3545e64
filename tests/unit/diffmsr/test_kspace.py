"""k-space: crop and zero-fill undo each other, on every size, and never mix images of a batch."""

from math import exp

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmsr import kspace
from diffmsr.baselines import aligned_bicubic, zero_filled
from diffmsr.consistency import consistent

sizes = st.integers(1, 23)


@settings(max_examples=40, deadline=None)
@given(h=sizes, w=sizes, extra_h=sizes, extra_w=sizes, seed=st.integers(0, 2**31))
def test_crop_undoes_zero_fill(h: int, w: int, extra_h: int, extra_w: int, seed: int) -> None:
    image = torch.randn(2, h, w, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))
    back = kspace.crop(kspace.zero_fill(image, h + extra_h, w + extra_w), h, w)
    assert torch.allclose(back, image, atol=1e-6 * float(image.abs().max()) + 1e-6)


def test_crop_is_the_textbook_crop() -> None:
    image = torch.randn(3, 12, 14, dtype=torch.complex128)
    k = kspace.fft2c(image)
    expected = kspace.ifft2c(k[:, 3:9, 4:11]) * (6 * 7) / (12 * 14)
    assert torch.allclose(kspace.crop(image, 6, 7), expected)


def test_transforms_do_not_mix_the_batch() -> None:
    images = torch.randn(4, 9, 12)
    for function in (kspace.fft2c, lambda x: kspace.zero_fill(x, 18, 24), lambda x: kspace.crop(x, 3, 4)):
        together = function(images)
        assert torch.allclose(together, torch.stack([function(image) for image in images]), atol=1e-5)


@pytest.mark.parametrize("size", [16, 17, 87])
def test_coarse_pixels_lie_on_fine_ones(size: int) -> None:
    """Grid offset 0: pixel i of the low-resolution image is pixel 4 i of the zero-filled one."""
    low = torch.randn(size, size, dtype=torch.complex64)
    assert torch.allclose(kspace.zero_fill(low, 4 * size, 4 * size)[::4, ::4], low, atol=1e-5)


def test_constant_stays_constant() -> None:
    assert np.allclose(kspace.crop_to(np.full((2, 30, 44), 7.0), 13, 22), 7.0, atol=1e-5)


def test_crop_to_keeps_anatomy_in_place() -> None:
    """A sampled sinusoid, seen through sizes that do not divide, is the same sinusoid sampled there."""
    image = 2 + np.cos(2 * np.pi * 3 * np.arange(100) / 100)[None, :].repeat(90, 0)
    expected = 2 + np.cos(2 * np.pi * 3 * np.arange(37) / 37)[None, :].repeat(31, 0)
    assert np.allclose(kspace.crop_to(image, 31, 37), expected, atol=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(0, 4), (11, 4), (4, 13)])
def test_impossible_sizes_are_refused(rows: int, columns: int) -> None:
    with pytest.raises(ValueError, match="cannot crop the k-space of 10 x 12"):
        kspace.crop_to(np.ones((10, 12)), rows, columns)
    with pytest.raises(ValueError, match="cannot zero-fill"):
        kspace.zero_fill(torch.ones(10, 12), 9, 12)


def test_baselines_lie_on_the_grid_of_the_truth() -> None:
    """For a smooth image both baselines give the image itself. Displaced by half a pixel, they would not."""
    y, x = np.mgrid[:96, :128] / 32
    truth = (3 + np.sin(2 * np.pi * y / 3) * np.cos(2 * np.pi * x / 4)).astype(np.float32)[None]
    low = kspace.crop_to(truth, 24, 32)
    inside = np.s_[:, 8:-8, 8:-8]
    assert np.abs(zero_filled(low, 4) - truth).max() < 1e-4
    assert np.abs(aligned_bicubic(low, 4) - truth)[inside].max() < 0.02


@settings(max_examples=20, deadline=None)
@given(h=st.integers(1, 9), w=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_data_consistency_gives_back_what_was_measured_and_nothing_else(h: int, w: int, seed: int) -> None:
    """Of odd sizes, whose frequencies all have their mirror image: the rest of k-space stays as it was."""
    rows, columns, low_rows, low_columns = 8 * h + 1, 8 * w + 1, 2 * h + 1, 2 * w + 1
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, rows, columns, generator=generator)
    low = torch.rand(2, low_rows, low_columns, generator=generator)
    given_back = consistent(image, low, low.numpy(), "full")
    assert torch.allclose(kspace.crop(given_back, low_rows, low_columns).real, low, atol=1e-5)
    nothing = torch.zeros(2, low_rows, low_columns)
    before, after = (kspace.with_centre(kspace.fft2c(x), nothing) for x in (image, given_back))
    assert torch.allclose(before, after, atol=1e-3)


@pytest.mark.parametrize("shape", [(32, 24, 8, 6), (32, 25, 8, 5), (32, 24, 32, 6), (30, 24, 7, 24)])
def test_data_consistency_is_exact_at_even_sizes_too(shape: tuple[int, int, int, int]) -> None:
    image, low = torch.rand(2, *shape[:2]), torch.rand(2, *shape[2:])
    given_back = consistent(image, low, low.numpy(), "full")
    assert torch.allclose(kspace.crop(given_back, *shape[2:]).real, low, atol=1e-5)
    high = torch.complex(image, torch.rand(2, *shape[:2]))
    measured = torch.complex(low, torch.rand(2, *shape[2:]))
    assert torch.allclose(
        kspace.crop(consistent(high, measured, measured.numpy(), "full"), *shape[2:]), measured, atol=1e-5
    )


@pytest.mark.parametrize("complex_image", [False, True])
def test_low_frequencies_alone_can_be_given_back(complex_image: bool) -> None:
    """The mean exactly, half of the band's way to its edge by exp(-4), and nothing beyond."""
    chance = torch.Generator().manual_seed(5)
    image, low = torch.rand(1, 32, 24, generator=chance), torch.rand(1, 16, 12, generator=chance)
    if complex_image:
        image, low = torch.complex(image, image.flip(1)), torch.complex(low, low.flip(2))
    missing = low - kspace.crop(image, 16, 12)
    after_all = image + kspace.put_back(missing, 32, 24, complex_image, 0.25)
    before, after, measured = (
        kspace.fft2c(x) for x in (kspace.crop(image, 16, 12), kspace.crop(after_all, 16, 12), low)
    )
    given_back = ((after - before) / (measured - before))[0]
    assert given_back[8, 6].real == pytest.approx(1, abs=1e-4)
    assert given_back[12, 6].real == pytest.approx(exp(-4), abs=1e-4)
    assert given_back[8, 9].real == pytest.approx(exp(-4), abs=1e-4)
    nothing = torch.zeros(1, 16, 12)
    outside = [kspace.with_centre(kspace.fft2c(x), nothing) for x in (image, after_all)]
    assert torch.allclose(*outside, atol=1e-3)
