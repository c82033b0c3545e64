"""How a run is doing on patients that it never sees."""

from collections.abc import Sequence

import numpy as np
import torch

from diffmsr.data import Slice, acquire, as_tensor, usual_pair, with_phase
from diffmsr.images import as_two_channels, from_two_channels, zero_filled_channels
from diffmsr.metrics import psnr
from diffmsr.models import Batch, Model
from diffmsr.normalisation import normalised, slice_maximum


@torch.inference_mode()
def validate(model: Model, slices: Sequence[Slice], stage: int, input_kind: str) -> dict[str, float]:
    """Mean gain in dB over the zero-filled image, by data set, with fixed phases and seeds, of the usual pair.

    The image is the model's `prediction` in this stage. In stage one that may use the truth, as DiffMSR's does: the
    figure is then one that inference cannot reach.
    """
    gains: dict[str, list[float]] = {}
    device = next(model.parameters()).device
    for piece in slices:
        batch = validation_batch(piece, model.config.scale, input_kind).each(lambda image: image.to(device))
        images = [batch.truth, model.prediction(batch, stage), batch.skip]
        truth, *made = (from_two_channels(image, input_kind)[0].abs().cpu().numpy() for image in images)
        quality = [psnr(image, truth, float(truth.max())) for image in made]
        gains.setdefault(piece.dataset, []).append(quality[0] - quality[1])
    return {name: float(np.mean(values)) for name, values in gains.items()}


def validation_batch(piece: Slice, scale: int, input_kind: str) -> Batch:
    """A whole slice as a batch of one, normalised as for inference. Its index seeds the phase and the noise."""
    target, reference = (as_tensor(piece.images[name]) for name in usual_pair(piece.images))
    rng = np.random.default_rng(piece.index)
    image = with_phase(target, rng)
    low = acquire(image, rng)
    low, truth = (low, image) if input_kind == "complex" else (low.abs(), target.abs())
    unit = slice_maximum(low)
    parts = (as_two_channels(part[None]) for part in (low / unit, truth / unit, normalised(reference.abs())))
    low_channels, truth_channels, reference_channels = parts
    skip = zero_filled_channels(low_channels, scale)
    return Batch(low_channels, truth_channels, reference_channels, skip, (piece.index,))
