"""How a run is doing on patients that it never sees."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffmsr.acquisition.draw import Mix
from diffmsr.data import Slice, acquired, as_tensor, usual_pair, with_phase
from diffmsr.images import as_two_channels, from_two_channels, zero_filled_channels
from diffmsr.metrics import psnr
from diffmsr.models import Batch, Model
from diffmsr.normalisation import normalised, slice_maximum


@torch.inference_mode()
def validate(
    model: Model, slices: Sequence[Slice], stage: int, input_kind: str, mix: Mix | None = None
) -> dict[str, float]:
    """Mean gain in dB over the zero-filled image as it was stored, by data set, with fixed phases and seeds, of the usual
    pair: of clean targets and, with a `mix`, of one acquisition drawn from it per slice.

    The image is the model's `prediction` in this stage. In stage one that may use the truth, as DiffMSR's does: the
    figure is then one that inference cannot reach.
    """
    gains: dict[str, list[float]] = {}
    mixes: dict[str, Mix | None] = {"": None} | ({", mixed": mix} if mix else {})
    device = next(model.parameters()).device
    for piece in slices:
        for suffix, of in mixes.items():
            batch, stored = validation_batch(piece, model.config.scale, input_kind, of)
            batch = batch.to(device)
            images = [batch.truth, model.prediction(batch, stage), stored]
            truth, *made = (from_two_channels(image, input_kind)[0].abs().cpu().numpy() for image in images)
            quality = [psnr(image, truth, float(truth.max())) for image in made]
            gains.setdefault(piece.dataset + suffix, []).append(quality[0] - quality[1])
    return {name: float(np.mean(values)) for name, values in gains.items()}


def validation_batch(piece: Slice, scale: int, input_kind: str, mix: Mix | None) -> tuple[Batch, Tensor]:
    """A whole slice as a batch of one, normalised as for inference, and the zero-filled target as it was stored. The
    slice's index seeds phase, noise and acquisition."""
    target, reference = (as_tensor(piece.images[name]) for name in usual_pair(piece.images))
    rng = np.random.default_rng(piece.index)
    image = with_phase(target, rng)
    low, stored, facts = acquired(image, rng, 0.0, mix, input_kind)
    truth = image if input_kind == "complex" else target.abs()
    unit = slice_maximum(low)
    parts = (low / unit, truth / unit, normalised(reference.abs()), stored / unit)
    low_channels, truth_channels, reference_channels, stored_channels = (as_two_channels(p[None]) for p in parts)
    skip, stored_skip = (zero_filled_channels(channels, scale) for channels in (low_channels, stored_channels))
    batch = Batch(low_channels, truth_channels, reference_channels, skip, (piece.index,), facts[None])
    return batch, stored_skip
