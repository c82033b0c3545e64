"""Training samples: varied patches of slices."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from diffmsr import kspace
from diffmsr.acquisition import FULL, features, left_over, simulate, undo
from diffmsr.acquisition.draw import Mix, draw_acquisition
from diffmsr.data.degradation import acquire, as_tensor, with_phase
from diffmsr.data.slices import SCALE, DataError, Slice, usual_pair
from diffmsr.normalisation import normalised, slice_maximum

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Augmentation:
    """How training samples vary. A share is the probability that a sample is changed in this way."""

    deployed_roles: Share = 0.65
    """Share of samples with the usual roles, T2 (or else T2-FLAIR) guided by T1. The others use any two contrasts."""
    gamma: Share = 0.3
    """Share whose reference is raised to a power between exp(-0.5) and exp(0.5)."""
    inversion: Share = 0.05
    """Share whose reference is inverted."""
    noise: NonNegativeFloat = 0.004
    """Largest standard deviation of the noise in the low-resolution image, as a share of the truth's maximum."""
    misplacement: Share = 0.3
    """Share whose reference is slightly misplaced: registration is never perfect."""
    shift: NonNegativeFloat = 2.0
    """Largest misplacement along each axis, in high-resolution pixels."""
    rotation: NonNegativeFloat = 1.0
    """Largest rotation of a misplaced reference about the middle of the patch, in degrees."""
    dropout: Share = 0.03
    """Share whose reference is zero: an empty reference must do no harm."""


def draw_pair(piece: Slice, deployed_roles: float, rng: np.random.Generator) -> tuple[str, str]:
    """Target and reference contrast of a sample: with that probability the deployed roles, else any two contrasts."""
    if rng.random() < deployed_roles:
        return usual_pair(piece.images)
    target, reference = rng.choice(sorted(piece.images), 2, replace=False)
    return str(target), str(reference)


def training_sample(
    piece: Slice,
    patch: int,
    rng: np.random.Generator,
    augmentation: Augmentation,
    input_kind: str = "magnitude",
    mix: Mix | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A patch of a slice: low (p/4, p/4), truth, reference and zero-filled target (p, p), normalised as for inference;
    and what is known of the acquisition (FEATURES,).

    With a `mix`, each sample has its own acquisition, and what is known of it is undone. Without one, and for complex
    images, the target is clean.

    With `input_kind` complex, all images but the reference are complex, with the phase of the data or a random smooth one.
    `rng` decides on flips, transposition and augmentation. The low-resolution image and the zero-filled one come from the
    whole slice, because a patch has no k-space of its own. Raises DataError when the slice is smaller than the patch.
    """
    target, source = draw_pair(piece, augmentation.deployed_roles, rng)
    truth, reference = (as_tensor(piece.images[name]) for name in (target, source))
    if min(truth.shape) < patch:
        raise DataError(
            f"{piece.dataset} {piece.subject}: slices of {tuple(truth.shape)} cannot give patches of {patch}"
        )
    truth, reference = normalised(truth), normalised(reference.abs())
    for axis in (0, 1):
        if rng.random() < 0.5:
            truth, reference = truth.flip(axis), reference.flip(axis)
    if rng.random() < 0.5:
        truth, reference = truth.T, reference.T
    if rng.random() < augmentation.gamma:
        reference = reference ** float(np.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < augmentation.inversion:
        reference = 1 - reference
    noise = float(rng.uniform(0, augmentation.noise))
    image = with_phase(truth, rng)
    low, _, facts = acquired(image, rng, noise, mix, input_kind)
    truth = image if input_kind == "complex" else truth.abs()
    unit = slice_maximum(low)
    low, truth = low / unit, truth / unit
    rows, columns = truth.shape
    skip = kspace.zero_fill(low, rows, columns)
    skip = skip if low.is_complex() else skip.real
    for _ in range(5):  # a patch of air teaches little
        y, x = (SCALE * int(rng.integers((size - patch) // SCALE + 1)) for size in (rows, columns))
        window = (slice(y, y + patch), slice(x, x + patch))
        if truth[window].abs().mean() > 0.08:
            break
    coarse = tuple(slice(part.start // SCALE, part.stop // SCALE) for part in window)
    guide = reference[window]
    if rng.random() < augmentation.misplacement:
        guide = _misplaced(reference, window, augmentation, rng)
    if rng.random() < augmentation.dropout:
        guide = torch.zeros_like(guide)
    return low[coarse], truth[window], guide, skip[window], facts


def acquired(
    image: Tensor, rng: np.random.Generator, noise: float, mix: Mix | None, input_kind: str = "magnitude"
) -> tuple[Tensor, Tensor, Tensor]:
    """Of a complex image (h, w): the low-resolution target (h / 4, w / 4) with its acquisition, drawn from `mix`, undone as
    far as it is known; the target as it was stored; and what is known. A clean target gets noise of deviation `noise`."""
    true = known = FULL
    if mix is not None and input_kind == "magnitude":
        true, known = draw_acquisition(mix, rng)
    if true == FULL:
        low = acquire(image, rng, noise)
        low = low if input_kind == "complex" else low.abs()
        return low, low, features(known)
    rows, columns = image.shape
    stored = simulate(image, true, rng, (rows // SCALE, columns // SCALE))
    return undo(stored, known), stored, features(left_over(known))


def _misplaced(
    image: Tensor, window: tuple[slice, slice], augmentation: Augmentation, rng: np.random.Generator
) -> Tensor:
    """The window of an image (h, w) as if the patient had moved: shifted and rotated in the plane, cubic, in [0, 1]."""
    dy, dx = rng.uniform(-augmentation.shift, augmentation.shift, 2)
    angle = np.deg2rad(rng.uniform(-augmentation.rotation, augmentation.rotation))
    half_y, half_x = ((part.stop - part.start - 1) / 2 for part in window)
    y = torch.arange(window[0].stop - window[0].start)[:, None] - half_y
    x = torch.arange(window[1].stop - window[1].start) - half_x
    rows = window[0].start + half_y + dy + float(np.cos(angle)) * y - float(np.sin(angle)) * x
    columns = window[1].start + half_x + dx + float(np.sin(angle)) * y + float(np.cos(angle)) * x
    h, w = image.shape
    grid = torch.stack([2 * columns / (w - 1) - 1, 2 * rows / (h - 1) - 1], dim=-1)
    moved = F.grid_sample(image[None, None], grid[None].float(), "bicubic", "border", align_corners=True)
    return moved[0, 0].clamp(0, 1)
