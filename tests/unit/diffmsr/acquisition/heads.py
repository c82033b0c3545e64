"""Heads made of ellipses and power-law texture: stacks with air around them, sharp edges and a spectrum like anatomy's."""

import numpy as np
import torch
from torch import Tensor

from diffmsr.data.degradation import with_phase


def head(seed: int, side: int = 256) -> Tensor:
    """A magnitude image (side, side) between 0 and 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    inside = (x / 0.7) ** 2 + (y / 0.85) ** 2 < 1
    image = 0.5 * inside
    for _ in range(60):
        cy, cx, a, b = rng.uniform(-0.6, 0.6), rng.uniform(-0.5, 0.5), *rng.uniform(0.02, 0.25, 2)
        image += rng.uniform(-0.2, 0.2) * ((((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1) & inside)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    texture = np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) / np.maximum(k, 1 / side) ** 1.2).real
    image = np.clip(image + 0.03 * texture / texture.std() * inside, 0, None)
    return torch.from_numpy((image / image.max()).astype(np.float32))


def complex_head(seed: int, side: int = 256) -> Tensor:
    """The same with a smooth phase."""
    return with_phase(head(seed, side), np.random.default_rng(seed))
