"""Scores of trained weights, slice by slice: of clean targets, and of targets acquired as in training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from diffmsr.data import DataError, Slice, subject_bandwidth, usual_pair
from diffmsr.evaluate.run import FULL_BANDWIDTH
from diffmsr.evaluate.selection import select
from diffmsr.images import from_two_channels
from diffmsr.metrics import quality
from diffmsr.models import Model
from diffmsr.progress import followed
from diffmsr.train import Config
from diffmsr.train.validation import validation_batch

CLEAN, VARIED = "clean", "varied"
STORED = "zero-filled"
"""The target as it was stored, with zeros around its k-space."""

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Of a slice: metric, by condition (clean, varied) and image (the method's own under its name, zero-filled)."""


def patients_of(config: Config, dataset: str, split: str | None = None, every: int = 1) -> dict[str, list[Slice]]:
    """Every `every`-th slice of each patient of a part of the split (held-out by default) of one of a run's data sets,
    without patients whose images the scanner zero-filled, unless all were. Raises DataError when there is none."""
    root, split_file = Path(config.data[dataset]), config.split.get(dataset)
    found = select(dataset, root, split=split, split_file=split_file).patients
    full = {s: p for s, p in found.items() if subject_bandwidth(p, usual_pair(p[0].images)[0]) >= FULL_BANDWIDTH}
    return {subject: pieces[::every] for subject, pieces in (full or found).items()}


@torch.inference_mode()
def slice_scores(model: Model, name: str, piece: Slice, config: Config) -> Scores:
    """PSNR and SSIM of one slice. Its index seeds phase, noise and the acquisition that is drawn for it; what is known of
    that is undone, as before training and inference. Raises DataError for a size that the network cannot take."""
    found = {}
    device = next(model.parameters()).device
    for condition, mix in ((CLEAN, None), (VARIED, config.acquisitions)):
        batch, stored = validation_batch(piece, model.config.scale, config.input_kind, mix)
        batch = batch.to(device)
        try:
            image = model.prediction(batch, model.config.stages)
        except ValueError as error:
            raise DataError(f"{piece.subject}: {error}") from None
        truth, made, as_stored = (
            from_two_channels(each, config.input_kind)[0].abs().cpu().numpy() for each in (batch.truth, image, stored)
        )
        found[condition] = {
            of: {metric: value for metric, value in quality(pixels, truth).items() if metric in ("psnr", "ssim")}
            for of, pixels in ((name, made), (STORED, as_stored))
        }
    return found


def scores_of(
    model: Model, name: str, patients: Mapping[str, Sequence[Slice]], config: Config
) -> dict[str, list[Scores]]:
    """The scores of every slice, by patient."""
    return {
        subject: [slice_scores(model, name, piece, config) for piece in pieces]
        for subject, pieces in followed(patients.items(), f"patients, {name}")
    }
