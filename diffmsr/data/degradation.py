"""A low-resolution image as a scanner would have acquired it."""

import numpy as np
import torch
from torch import Tensor

from diffmsr import kspace
from diffmsr.data.slices import SCALE, Pixels


def as_tensor(pixels: Pixels) -> Tensor:
    """An image of a slice as complex64 when it is complex, else as float32."""
    return torch.from_numpy(pixels.astype(np.complex64 if np.iscomplexobj(pixels) else np.float32))


def smooth_phase(rows: int, columns: int, rng: np.random.Generator) -> Tensor:
    """A random phase (rows, columns) in radians, quadratic in space, as coils and field inhomogeneity leave it."""
    y, x = torch.linspace(-1, 1, rows)[:, None], torch.linspace(-1, 1, columns)
    c = torch.from_numpy(rng.normal(0, [1, 0.6, 0.6, 0.4, 0.4, 0.4]).astype(np.float32))
    return c[0] + c[1] * x + c[2] * y + c[3] * x * y + c[4] * x * x + c[5] * y * y


def degrade(truth: Tensor, rng: np.random.Generator, noise: float = 0.0) -> Tensor:
    """The low-resolution magnitude (h / 4, w / 4) of an image (h, w).

    As a scanner would: a smooth phase makes a magnitude image complex, only the centre of its k-space is acquired, complex
    Gaussian noise of standard deviation `noise` (in the image's unit, a channel) joins, and the magnitude is kept.
    """
    rows, columns = truth.shape
    image = truth if truth.is_complex() else torch.polar(truth, smooth_phase(rows, columns, rng))
    low = kspace.crop(image, rows // SCALE, columns // SCALE)
    if noise:
        low = low + torch.view_as_complex(torch.from_numpy(rng.normal(0, noise, (*low.shape, 2)).astype(np.float32)))
    return low.abs()
