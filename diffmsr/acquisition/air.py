"""Noise, from the air around the head."""

from dataclasses import dataclass
from math import gamma, pi, sqrt

import numpy as np
from numpy.typing import NDArray

BLOCK = 4
"""Side, in pixels, of the blocks. The darkest of them are taken to be air."""
DARKEST = 0.1
"""Share of the blocks that is air in any head image."""
FEWEST = 40
"""Blocks of air, over the stack, below which nothing is concluded."""
COILS = (1, 2, 4, 8, 16, 32)
LIKELY = 0.5
"""Confidence below which the air does not behave like noise, and the noise stays unknown."""


@dataclass(frozen=True)
class Air:
    """Standard deviation of the noise in each channel, in the images' unit, and how many coils were combined."""

    deviation: float
    coils: int
    confidence: float

    @property
    def is_noise(self) -> bool:
        """Whether the air behaves like noise, so that the other figures are reliable."""
        return self.confidence >= LIKELY

    @property
    def rms(self) -> float:
        """Root mean square magnitude of the noise where there is no signal."""
        return self.deviation * sqrt(2 * self.coils)


def air_noise(stack: NDArray[np.float32]) -> Air | None:
    """The noise that the darkest blocks of magnitudes (n, h, w) show; None where there is no air, as in an image that a mask
    has emptied, or one that the head fills.

    In air the magnitude of n coils is a chi variable of 2 n degrees of freedom (Constantinides et al. 1997): its mean
    over its standard deviation gives n, and its mean square gives the deviation.
    """
    n, h, w = stack.shape
    blocks = stack[:, : h // BLOCK * BLOCK, : w // BLOCK * BLOCK].astype(np.float64)
    blocks = blocks.reshape(n, h // BLOCK, BLOCK, w // BLOCK, BLOCK).swapaxes(2, 3).reshape(-1, BLOCK * BLOCK)
    power = np.square(blocks).mean(axis=1)
    blocks, power = blocks[power > 0], power[power > 0]
    if len(power) < 2 * FEWEST:
        return None
    dark = blocks[power < 2.5 * np.quantile(power, DARKEST)]
    if len(dark) < FEWEST:
        return None
    spread = float(dark.std() / dark.mean())
    if spread < 1e-6:  # one value everywhere
        return None
    coils = min(COILS, key=lambda c: abs(np.log(_spread(c) / spread)))
    deviation = float(np.sqrt(np.square(dark).mean() / (2 * coils)))
    fit = abs(np.log(_spread(coils) / spread))
    return Air(deviation, coils, float(np.exp(-((fit / 0.35) ** 2))) if len(dark) > DARKEST * len(blocks) else 0.0)


def _spread(coils: int) -> float:
    """Standard deviation over mean of a chi variable with 2 * coils degrees of freedom."""
    mean = sqrt(pi / 2) if coils == 1 else sqrt(2) * np.exp(_log_gamma(coils + 0.5) - _log_gamma(coils))
    return float(sqrt(2 * coils - mean**2) / mean)


def _log_gamma(x: float) -> float:
    return float(np.log(gamma(x)))
