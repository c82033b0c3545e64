"""Ways of enlarging that know nothing of anatomy, exactly on the grid of the result. Super-resolution has to beat them."""

import numpy as np
import torch
import torch.nn.functional as F

from diffmsr import kspace
from diffmsr.arrays import Magnitudes


def zero_filled(target: Magnitudes, scale: int) -> Magnitudes:
    """The magnitudes (n, s h, s w) of images (n, h, w), complex or magnitudes, with zeros around their k-space."""
    h, w = target.shape[-2:]
    filled = kspace.zero_fill(torch.from_numpy(np.ascontiguousarray(target)), scale * h, scale * w)
    images: Magnitudes = (filled.abs() if np.iscomplexobj(target) else filled.real.clamp_min(0)).numpy()
    return images


def aligned_bicubic(target: Magnitudes, scale: int) -> Magnitudes:
    """Cubic interpolation (a = -0.75) of (n, h, w) at i / s: (n, s h, s w).

    The bicubic resize of torch samples at (i + 1/2) / s - 1/2, which is displaced from the k-space grid by (s - 1) / 2
    output pixels.
    """
    h, w = target.shape[-2:]
    rows, columns = torch.arange(scale * h) / scale, torch.arange(scale * w) / scale
    y, x = 2 * rows / (h - 1) - 1, 2 * columns / (w - 1) - 1
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
    source = torch.from_numpy(np.ascontiguousarray(target))[:, None]
    enlarged = F.grid_sample(
        source, grid.expand(len(source), -1, -1, -1), mode="bicubic", padding_mode="border", align_corners=True
    )
    images: Magnitudes = enlarged[:, 0].clamp_min(0).numpy()
    return images
