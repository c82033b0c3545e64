"""Image quality, compared with a truth."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_laplace

from diffmsr.arrays import Magnitudes

VARIANTS = {
    "float": {
        "psnr": "dB, 20 log10(maximum of the truth / root mean square error)",
        "ssim": "Wang et al. 2004, Gaussian window of sigma 1.5 cut at 11 pixels, data range the truth's maximum",
        "nrmse": "norm of the error / norm of the truth",
        "hfen": "NRMSE of the images filtered by a Laplacian of a Gaussian of sigma 1.5 cut at 15 x 15 (Ravishankar, Bresler 2011)",
        "images": "magnitudes, whole frame, floating point, nothing rounded or clipped",
    },
    "published": {
        "psnr": "dB, 20 log10(255 / root mean square error)",
        "ssim": "Wang et al. 2004, Gaussian window of sigma 1.5 cut at 11 pixels, data range 255",
        "nrmse": "norm of the error / norm of the truth",
        "hfen": "NRMSE of the images filtered by a Laplacian of a Gaussian of sigma 1.5 cut at 15 x 15 (Ravishankar, Bresler 2011)",
        "images": "magnitudes over the truth's maximum, clipped to 1, rounded to 8 bits, whole frame",
    },
}
"""Definitions by variant. `published` rounds and clips as the published code does."""


def quality(prediction: Magnitudes, truth: Magnitudes, variant: str = "float") -> dict[str, float]:
    """PSNR (dB), SSIM, NRMSE and HFEN of an image (h, w) in a variant's definitions."""
    unit = float(truth.max())
    if variant == "published":
        prediction, truth = (np.round(255 * np.clip(image / unit, 0, 1)) for image in (prediction, truth))
        unit = 255.0
    return {
        "psnr": psnr(prediction, truth, unit),
        "ssim": ssim(prediction, truth, unit),
        "nrmse": nrmse(prediction, truth),
        "hfen": hfen(prediction, truth),
    }


def psnr(prediction: Magnitudes, truth: Magnitudes, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB: 20 log10(data_range / root mean square error). Infinite for equal images."""
    error = float(np.mean((prediction.astype(np.float64) - truth) ** 2))
    return float("inf") if error == 0 else float(20 * np.log10(data_range) - 10 * np.log10(error))


def ssim(prediction: Magnitudes, truth: Magnitudes, data_range: float) -> float:
    """Structural similarity of two (h, w) images, Wang et al. 2004: Gaussian window of sigma 1.5 cut at 11 pixels,
    k1 = 0.01, k2 = 0.03, population covariance, mean over the whole frame."""
    x, y = prediction.astype(np.float64), truth.astype(np.float64)

    def local(image: NDArray[np.float64]) -> NDArray[np.float64]:
        smoothed: NDArray[np.float64] = gaussian_filter(image, sigma=1.5, truncate=3.5)
        return smoothed

    mean_x, mean_y = local(x), local(y)
    var_x, var_y, cov = local(x * x) - mean_x**2, local(y * y) - mean_y**2, local(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(similarity.mean())


def nrmse(prediction: Magnitudes, truth: Magnitudes) -> float:
    """Norm of the error over the norm of the truth."""
    return float(np.linalg.norm(prediction.astype(np.float64) - truth) / np.linalg.norm(truth.astype(np.float64)))


def hfen(prediction: Magnitudes, truth: Magnitudes) -> float:
    """High-frequency error norm, Ravishankar and Bresler 2011: the norm of the error over the norm of the truth, both
    filtered by a Laplacian of a Gaussian (sigma 1.5 pixels, cut at 15 x 15)."""

    def edges(image: NDArray[np.float64]) -> NDArray[np.float64]:
        filtered: NDArray[np.float64] = gaussian_laplace(image, sigma=1.5, truncate=14 / 3)
        return filtered

    x, y = prediction.astype(np.float64), truth.astype(np.float64)
    return float(np.linalg.norm(edges(x - y)) / np.linalg.norm(edges(y)))
