"""Images whose skull was cut away end at an edge that no scanner measured. No figure counts what is beside it."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from diffmsr.arrays import Magnitudes
from diffmsr.data import DATASETS

BESIDE = 4
"""Pixels of the truth on both sides of the cut: one of the low-resolution image."""
NOTE = f"the skull was cut away: figures leave out {BESIDE} pixels on both sides of the cut"


def is_cut(dataset: str) -> bool:
    """Whether the images of a data set have no skull."""
    return DATASETS[dataset].without_skull


def cut_of(truth: Magnitudes) -> NDArray[np.bool_]:
    """(h, w), true beside the cut around what is not 0 in the truth."""
    brain = truth > 0
    near: NDArray[np.bool_] = binary_dilation(brain, iterations=BESIDE) & ~binary_erosion(brain, iterations=BESIDE)
    return near


def without_cut(image: Magnitudes, truth: Magnitudes, dataset: str) -> Magnitudes:
    """The image (h, w), as right as its truth beside the cut, where a data set has one."""
    return np.where(cut_of(truth), truth, image) if is_cut(dataset) else image
