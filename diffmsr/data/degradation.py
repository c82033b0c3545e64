"""Low-resolution images as a scanner would have acquired them."""

import numpy as np
import torch
from torch import Tensor

from diffmsr import kspace
from diffmsr.arrays import Pixels
from diffmsr.data.slices import SCALE


def as_tensor(pixels: Pixels) -> Tensor:
    """An image of a slice, as complex64 when it is complex, else as float32."""
    return torch.from_numpy(pixels.astype(np.complex64 if np.iscomplexobj(pixels) else np.float32))


def smooth_phase(rows: int, columns: int, rng: np.random.Generator) -> Tensor:
    """A random phase (rows, columns) in radians, quadratic in space, as coils and field inhomogeneity leave it."""
    y, x = torch.linspace(-1, 1, rows)[:, None], torch.linspace(-1, 1, columns)
    c = torch.from_numpy(rng.normal(0, [1, 0.6, 0.6, 0.4, 0.4, 0.4]).astype(np.float32))
    return c[0] + c[1] * x + c[2] * y + c[3] * x * y + c[4] * x * x + c[5] * y * y


def with_phase(image: Tensor, rng: np.random.Generator) -> Tensor:
    """A complex image (h, w) unchanged, or a magnitude image with a random smooth phase."""
    rows, columns = image.shape
    return image if image.is_complex() else torch.polar(image, smooth_phase(rows, columns, rng))


def acquire(image: Tensor, rng: np.random.Generator, noise: float = 0.0) -> Tensor:
    """The low-resolution complex image (h / 4, w / 4) of a complex image (h, w): only the centre of its k-space is
    acquired. Complex Gaussian noise is added, with standard deviation `noise` per channel, in the image's unit."""
    rows, columns = image.shape
    low = kspace.crop(image, rows // SCALE, columns // SCALE)
    if noise:
        low = low + torch.view_as_complex(torch.from_numpy(rng.normal(0, noise, (*low.shape, 2)).astype(np.float32)))
    return low


def degrade(truth: Tensor, rng: np.random.Generator, noise: float = 0.0) -> Tensor:
    """The low-resolution magnitude (h / 4, w / 4) of an image (h, w), as a scanner that acquires less would store it in
    DICOM. A magnitude image gets a random smooth phase first."""
    return acquire(with_phase(truth, rng), rng, noise).abs()
