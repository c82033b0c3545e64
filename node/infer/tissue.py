"""Whether a reference that does not reach all of a target leaves out only air."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_opening

from node.infer.resample import Reference
from node.infer.volume import Volume

BRIGHT = 0.1
"""Of the 99th percentile of a stack: what is brighter is tissue. In T1 and T2 of three ACR phantoms (GE, Siemens, Siemens XA,
whole and lowered fourfold) at most 0.02 % of the air is above it. So is 0.5 % of air with noise of 3 % of that percentile
(Rayleigh distribution)."""


def tissue_covered(target: Volume, guide: Reference) -> float:
    """The share (0 to 1) of the target's tissue that the reference reaches, in all slices together; 1 without tissue. Single
    bright pixels are noise, not tissue."""
    tissue = tissue_of(target)
    if not tissue.any():
        return 1.0
    rows, columns = (fine // coarse for fine, coarse in zip(guide.reached.shape[1:], tissue.shape[1:], strict=True))
    fine = tissue.repeat(rows, axis=1).repeat(columns, axis=2)
    return float(guide.reached[fine].mean())


def tissue_of(volume: Volume) -> NDArray[np.bool_]:
    """(n, rows, columns), true where there is tissue."""
    bright = volume.pixels > BRIGHT * np.percentile(volume.pixels, 99)
    found: NDArray[np.bool_] = binary_opening(bright, np.ones((1, 2, 2), dtype=np.bool_))
    return found
