"""Images as the networks take them: (b, 2, h, w), real and imaginary part; a magnitude image is (magnitude, 0)."""

import torch
from torch import Tensor

from diffmsr import kspace


def as_two_channels(images: Tensor) -> Tensor:
    """Images (b, h, w), complex or magnitudes, as (b, 2, h, w). The imaginary part of a magnitude is zero."""
    if images.is_complex():
        return torch.stack([images.real, images.imag], dim=1)
    return torch.stack([images, torch.zeros_like(images)], dim=1)


def from_two_channels(images: Tensor, input_kind: str) -> Tensor:
    """The images (b, h, w) in (b, 2, h, w): complex ones, or for `magnitude` the real part with negative values at 0."""
    return torch.complex(images[:, 0], images[:, 1]) if input_kind == "complex" else images[:, 0].clamp_min(0)


def zero_filled_channels(low: Tensor, scale: int) -> Tensor:
    """The target's k-space filled with zeros: (b, 2, h, w) to (b, 2, s h, s w), exactly aligned (i_HR = s i_LR)."""
    h, w = low.shape[-2:]
    image = kspace.zero_fill(torch.complex(low[:, 0], low[:, 1]), scale * h, scale * w)
    return torch.stack([image.real, image.imag], dim=1)
