"""Images whose skull was cut away: along the cut no scanner measured what is there, and beyond it the truth is 0 by decision.
Figures count what is within."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from diffmsr.arrays import Magnitudes
from diffmsr.data import DATASETS

BESIDE = 4
"""Pixels of the truth along the cut that do not count: one of the low-resolution image."""
_LEAST = 0.02
"""Share of the frame that must be left. A slice with less counts up to the cut."""
NOTE = f"the skull was cut away: figures count what is more than {BESIDE} pixels within the cut"


def is_cut(dataset: str) -> bool:
    """Whether the images of a data set have no skull."""
    return DATASETS[dataset].without_skull


def within_cut(truth: Magnitudes) -> NDArray[np.bool_]:
    """(h, w), true where figures count: inside of what is not 0 in the truth."""
    brain: NDArray[np.bool_] = truth > 0
    inside: NDArray[np.bool_] = binary_erosion(brain, iterations=BESIDE)
    return inside if inside.mean() > _LEAST else brain


def without_cut(image: Magnitudes, truth: Magnitudes, dataset: str) -> Magnitudes:
    """The image (h, w) of a data set, as right as its truth where figures do not count."""
    return np.where(within_cut(truth), image, truth) if is_cut(dataset) else image
