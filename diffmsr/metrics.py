"""Image quality against a truth, in floating point; nothing is rounded to 8 bits or clipped to the data range."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Image = NDArray[np.float32]


def psnr(prediction: Image, truth: Image, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB: 20 log10(data_range / root mean square error). Infinite for equal images."""
    error = float(np.mean((prediction.astype(np.float64) - truth) ** 2))
    return float("inf") if error == 0 else float(20 * np.log10(data_range) - 10 * np.log10(error))


def ssim(prediction: Image, truth: Image, data_range: float) -> float:
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


def nrmse(prediction: Image, truth: Image) -> float:
    """Norm of the error over the norm of the truth."""
    return float(np.linalg.norm(prediction.astype(np.float64) - truth) / np.linalg.norm(truth.astype(np.float64)))
