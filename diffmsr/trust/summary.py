"""What a trust map shows, in two figures per slice."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffmsr.arrays import Magnitudes

BRIGHT = 0.1
"""Of the 99th percentile of a stack: what is brighter in the result is tissue."""
UNSURE = 0.25
"""Expected error over a pixel's own brightness above which a pixel is unsure."""
LEAST_TISSUE = 0.02
"""Share of a slice that must be tissue. With less there is nothing to summarise, and both figures are 0."""


@dataclass(frozen=True)
class TrustSummary:
    """Of each slice."""

    expected: list[float]
    """Mean expected absolute error in tissue, over the mean intensity of the result there."""
    unsure: list[float]
    """Share of the tissue whose expected error exceeds `UNSURE` of its own brightness."""


def tissue_of(images: Magnitudes) -> NDArray[np.bool_]:
    """(n, h, w), true where a super-resolved stack shows tissue."""
    found: NDArray[np.bool_] = images > BRIGHT * np.percentile(images, 99)
    return found


def has_tissue(tissue: NDArray[np.bool_]) -> bool:
    """Whether a slice (h, w) shows enough tissue to be judged by it."""
    return bool(tissue.mean() > LEAST_TISSUE)


def summarise(images: Magnitudes, expected: Magnitudes) -> TrustSummary:
    """The summary of a stack (n, h, w) and its expected errors (n, h, w), in one unit."""
    means, shares = [], []
    for image, error, tissue in zip(images, expected, tissue_of(images), strict=True):
        bright = image[tissue].astype(np.float64)
        enough = has_tissue(tissue)
        means.append(float(error[tissue].mean(dtype=np.float64) / bright.mean()) if enough else 0.0)
        shares.append(float((error[tissue] > UNSURE * bright).mean()) if enough else 0.0)
    return TrustSummary(means, shares)
