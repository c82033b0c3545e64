"""A result agrees with what was measured: which part of the measured k-space is put back into it, and what noise excuses."""

from math import inf

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffmsr import kspace
from diffmsr.acquisition import air_noise
from diffmsr.arrays import Pixels

REACH = {"none": 0.0, "low": 0.25, "full": inf}
"""How much of the measured k-space is put back, as the reach of `kspace.put_back`. With "low" no region of a slice
becomes brighter or darker than it was measured: attention windows of 16 pixels, which are 1/8 of the band, must not show.
Chosen on validation patients among 1/16, 1/8, 1/4, 1/2 and 1 (docs/acquisition.md)."""
FAINT = 1.5
"""Times the root mean square of the noise in air: pixels that are fainter, on average of target and result, are air. Chosen on
the same patients among 1.5, 2.5 and 4."""
UNSEEN = 0.01
"""Share of a slice's maximum: a smaller difference is left alone. The ringing of a low-resolution magnitude image gives dark air
a floor of less than that. Chosen on the same patients among 0, 0.005, 0.01, 0.02, 0.03 and 0.05."""


def consistent(high: Tensor, low: Tensor, stored: Pixels, part: str) -> Tensor:
    """Results (n, H, W) with a part, one of REACH, of the k-space of the targets `low` (n, h, w) put back; both real, or both
    complex, and both as shares of the maximum of each slice. `stored` are the targets before anything was undone, in any unit:
    their air shows whether there is noise."""
    reach = REACH[part]
    if not reach:
        return high
    seen = kspace.crop(high, *low.shape[-2:])
    evenly = part == "low" and not high.is_complex()
    if evenly:
        seen = seen.real
        low = torch.stack([_as_noisy(*one) for one in zip(low, seen, stored, strict=True)])
    rows, columns = high.shape[-2:]
    gained = kspace.put_back(low - seen, rows, columns, high.is_complex(), reach)
    return high + (F.softshrink(gained, UNSEEN) if evenly else gained)


def _as_noisy(low: Tensor, seen: Tensor, stored: Pixels) -> Tensor:
    """The target (h, w) with as much noise in its air as the network left in all of it; `seen` is the result at low resolution.

    Noise gives the air of a magnitude image a floor. A network that takes it away is right to do so, but evenly.
    """
    before = air_noise(np.asarray(stored, dtype=np.float32)[None])
    after = air_noise(low[None].cpu().numpy())
    if before is None or after is None or not before.is_noise:
        return low
    air = (low + seen) / 2 <= FAINT * after.rms
    measured = low[air].sum()
    if measured == 0:  # no air, or a mask has emptied it
        return low
    return torch.where(air, (seen[air].sum() / measured).clamp(0, 1) * low, low)
