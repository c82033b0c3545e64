"""Images as the networks take them: (b, 2, h, w), real and imaginary part; a magnitude image is (magnitude, 0)."""

import torch
from torch import Tensor

from diffmsr import kspace


def as_two_channels(magnitude: Tensor) -> Tensor:
    """A magnitude image (b, h, w) as (b, 2, h, w), imaginary part zero."""
    return torch.stack([magnitude, torch.zeros_like(magnitude)], dim=1)


def zero_filled(low: Tensor, scale: int) -> Tensor:
    """The target's k-space filled with zeros: (b, 2, h, w) to (b, 2, s h, s w), exactly aligned (i_HR = s i_LR)."""
    h, w = low.shape[-2:]
    image = kspace.zero_fill(torch.complex(low[:, 0], low[:, 1]), scale * h, scale * w)
    return torch.stack([image.real, image.imag], dim=1)
