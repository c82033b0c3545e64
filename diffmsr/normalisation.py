"""How intensities are brought to one scale: the manifest's `slice-max`, in training, validation and inference alike."""

import torch
from torch import Tensor


def slice_maximum(images: Tensor) -> Tensor:
    """The largest magnitude of each image (..., h, w), complex or magnitudes, as (..., 1, 1); never zero, so that one may
    divide by it.

    The floor is the smallest normal float32. k-space data in physical units may have maxima of 1e-6 and less.
    """
    magnitudes = images.abs() if images.is_complex() else images
    return magnitudes.amax(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def normalised(images: Tensor) -> Tensor:
    """Images (..., h, w), each divided by its own largest magnitude. An empty image stays zero."""
    return images / slice_maximum(images)
