"""What super-resolution has to beat: ways of enlarging that know nothing of anatomy, exactly on the same grid."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from diffmsr import kspace

Images = NDArray[np.float32]


def zero_filled(target: Images, scale: int) -> Images:
    """Images (n, h, w), complex or magnitudes, with zeros around their k-space: magnitudes (n, s h, s w)."""
    h, w = target.shape[-2:]
    filled = kspace.zero_fill(torch.from_numpy(np.ascontiguousarray(target)), scale * h, scale * w)
    images: Images = (filled.abs() if np.iscomplexobj(target) else filled.real.clamp_min(0)).numpy()
    return images


def aligned_bicubic(target: Images, scale: int) -> Images:
    """Cubic interpolation (a = -0.75) of (n, h, w) at i / s: (n, s h, s w).

    The framework's own bicubic resize samples at (i + 1/2) / s - 1/2, which is (s - 1) / 2 output pixels beside the
    k-space grid.
    """
    h, w = target.shape[-2:]
    rows, columns = torch.arange(scale * h) / scale, torch.arange(scale * w) / scale
    y, x = 2 * rows / (h - 1) - 1, 2 * columns / (w - 1) - 1
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
    source = torch.from_numpy(np.ascontiguousarray(target))[:, None]
    enlarged = F.grid_sample(
        source, grid.expand(len(source), -1, -1, -1), mode="bicubic", padding_mode="border", align_corners=True
    )
    images: Images = enlarged[:, 0].clamp_min(0).numpy()
    return images
