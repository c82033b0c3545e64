"""What a scanner with a given acquisition would have stored of an object."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffmsr import kspace
from diffmsr.acquisition.model import Acquisition
from diffmsr.acquisition.transfer import acquired_matrix, filter_weights, frequencies, kept


def simulate(image: Tensor, acquisition: Acquisition, rng: np.random.Generator, stored: tuple[int, int]) -> Tensor:
    """Magnitudes (h, w) that a scanner stores of a complex image (H, W) when its matrix is `stored` (h, w).

    What the acquisition leaves open counts as done in full, without noise, by one coil. The noise is a share of the
    image's maximum. Raises ValueError when the stored matrix is larger than the image.
    """
    low = kspace.crop(image, *stored)
    deviation = float(acquisition.noise or 0.0) * float(image.abs().amax())
    coils = [kspace.fft2c(low + _noise(low, deviation, rng))]
    coils += [kspace.fft2c(_noise(low, deviation, rng)) for _ in range((acquisition.coils or 1) - 1) if deviation]
    weights = kept(acquisition, *stored) * filter_weights(acquisition, *stored)
    images = [_reconstructed(k * weights, acquisition) for k in coils]
    magnitude = torch.stack(images).abs().square().sum(dim=0).sqrt() if len(images) > 1 else images[0].abs()
    return _enlarged_by_cubic(magnitude, acquisition) if acquisition.interpolation == "cubic" else magnitude


def _noise(like: Tensor, deviation: float, rng: np.random.Generator) -> Tensor:
    if not deviation:
        return torch.zeros_like(like)
    return torch.view_as_complex(torch.from_numpy(rng.normal(0, deviation, (*like.shape, 2)).astype(np.float32)))


def _reconstructed(k: Tensor, acquisition: Acquisition) -> Tensor:
    """The image of measured k-space: missing samples are zeros, or filled in by homodyne reconstruction.

    Homodyne detection (Noll et al. 1991): one-sided frequencies count twice, and the real part is taken after the phase
    of the symmetric centre has been removed.
    """
    partial = [f if f is not None else 1.0 for f in acquisition.partial_fourier]
    if not acquisition.homodyne or min(partial) == 1:
        return kspace.ifft2c(k)
    rows, columns = k.shape[-2:]
    centre, doubled = torch.ones(rows, columns), torch.ones(rows, columns)
    for axis, (n, a, f) in enumerate(
        zip((rows, columns), acquired_matrix(acquisition, rows, columns), partial, strict=True)
    ):
        one_sided = (frequencies(n, a).abs() > 2 * f - 1) if f < 1 else torch.zeros(n, dtype=torch.bool)
        line = one_sided[:, None] if axis == 0 else one_sided[None, :]
        centre, doubled = torch.where(line, 0.0, centre), torch.where(line, 2 * doubled, doubled)
    phase = kspace.ifft2c(k * centre).angle()
    return (kspace.ifft2c(k * doubled) * torch.polar(torch.ones_like(phase), -phase)).real


def _enlarged_by_cubic(magnitude: Tensor, acquisition: Acquisition) -> Tensor:
    """Magnitudes (h, w) as from a cubic enlargement of the acquired matrix in the image, on the same grid."""
    h, w = magnitude.shape
    rows, columns = acquired_matrix(acquisition, h, w)
    if (rows, columns) == (h, w):
        return magnitude
    small = kspace.crop(magnitude, rows, columns).real
    y = 2 * torch.arange(h) * (rows / h) / (rows - 1) - 1
    x = 2 * torch.arange(w) * (columns / w) / (columns - 1) - 1
    grid = torch.stack([x.expand(h, -1), y[:, None].expand(-1, w)], dim=-1)
    enlarged = F.grid_sample(small[None, None], grid[None].float(), "bicubic", "border", align_corners=True)
    return enlarged[0, 0].clamp_min(0)
