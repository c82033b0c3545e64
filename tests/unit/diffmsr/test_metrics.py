"""Metrics by their definitions, on images whose answer is known by hand."""

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter

from diffmsr.metrics import hfen, nrmse, psnr, quality, ssim


def test_psnr_of_a_known_error() -> None:
    truth = np.zeros((8, 8), np.float32)
    assert psnr(truth + 0.1, truth, data_range=1.0) == pytest.approx(20, abs=1e-4)
    assert psnr(truth + 0.1, truth, data_range=10.0) == pytest.approx(40, abs=1e-4)
    assert psnr(truth, truth, data_range=1.0) == float("inf")


def test_psnr_neither_rounds_nor_clips() -> None:
    truth = np.full((8, 8), 1.0, np.float32)
    assert psnr(truth + 0.001, truth, 1.0) == pytest.approx(60, abs=0.01)


def test_nrmse_is_relative() -> None:
    truth = np.array([[3.0, 4.0]], np.float32)
    assert nrmse(truth * 1.1, truth) == pytest.approx(0.1, abs=1e-6)


def test_ssim_of_constants_is_the_luminance_term() -> None:
    a, b = np.full((32, 32), 0.5, np.float32), np.full((32, 32), 0.7, np.float32)
    c1 = 0.01**2
    assert ssim(a, b, 1.0) == pytest.approx((2 * 0.35 + c1) / (0.25 + 0.49 + c1), abs=1e-6)


def test_ssim_falls_with_blur_and_not_with_the_unit() -> None:
    truth = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    slight, strong = (gaussian_filter(truth, sigma) for sigma in (0.5, 2.0))
    assert 1 > ssim(slight, truth, 1.0) > ssim(strong, truth, 1.0)
    assert ssim(truth, truth, 1.0) == pytest.approx(1)
    assert ssim(100 * slight, 100 * truth, 100.0) == pytest.approx(ssim(slight, truth, 1.0), abs=1e-6)


def test_hfen_is_that_of_its_kernel() -> None:
    """The 15 x 15 Laplacian of a Gaussian of sigma 1.5, written out."""
    y, x = np.mgrid[-7:8, -7:8]
    gauss = np.exp(-(x**2 + y**2) / (2 * 1.5**2))
    kernel = gauss / gauss.sum() * (x**2 + y**2 - 2 * 1.5**2) / 1.5**4
    truth, prediction = np.random.default_rng(0).random((2, 48, 48)).astype(np.float32)
    edges = [convolve(image.astype(np.float64), kernel) for image in (prediction - truth, truth)]
    expected = np.linalg.norm(edges[0]) / np.linalg.norm(edges[1])
    assert hfen(prediction, truth) == pytest.approx(expected, rel=1e-3)
    assert hfen(truth, truth) == 0
    assert hfen(truth + 1, truth) < 0.01 < nrmse(truth + 1, truth)


def test_the_published_variant_rounds_and_clips() -> None:
    truth = np.full((32, 32), 2.0, np.float32)
    truth[:, :16] = 1.0
    assert quality(truth + 0.001, truth, "published")["psnr"] == float("inf")
    assert quality(truth * np.where(truth > 1, 1.5, 1).astype(np.float32), truth, "published")["nrmse"] == 0
    assert quality(truth * 1.5, truth)["nrmse"] == pytest.approx(0.5)
