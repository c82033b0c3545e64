"""Quality of trained weights on patients never seen, beside the zero-filled image and aligned bicubic interpolation."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffmsr.baselines import aligned_bicubic, zero_filled
from diffmsr.data import SCALE, DataError, Slice, degrade, read_slices, subject_bandwidth
from diffmsr.metrics import nrmse, psnr, ssim

FULL_BANDWIDTH = 0.65
"""A subject below this was zero-filled by the scanner: a good part of its 'truth' is itself interpolated."""

Images = NDArray[np.float32]
Scores = dict[str, dict[str, float]]
"""Metric by method and name."""


def evaluate(
    dataset: str,
    root: Path,
    super_resolve: Callable[[Images, Images, Sequence[int]], Images],
    target: str,
    reference: str = "T1",
    split: str = "held-out",
) -> dict[str, Any]:
    """Mean PSNR (dB), SSIM and NRMSE of slices, over all of them and by patient.

    Each slice is degraded with a smooth phase seeded by its index and no added noise; Z_T has the same seed. The data
    range of PSNR and SSIM is the truth's maximum, the frame is whole, nothing is rounded. The means leave out patients
    whose images the scanner zero-filled; `all_patients` are the means with them. Raises DataError when nothing fits.
    """
    slices = [
        piece
        for piece in read_slices(dataset, root)
        if piece.held_out == (split == "held-out") and {target, reference} <= piece.images.keys()
    ]
    by_subject: dict[str, list[Slice]] = defaultdict(list)
    for piece in slices:
        by_subject[piece.subject].append(piece)
    if not by_subject:
        raise DataError(f"{root}: no {split} slices with {target} and {reference}")

    patients: list[dict[str, Any]] = []
    everything: list[Scores] = []
    quoted: list[Scores] = []
    for subject, pieces in sorted(by_subject.items()):
        scores = [_score(piece, target, reference, super_resolve) for piece in pieces]
        bandwidth = subject_bandwidth(pieces, target)
        everything += scores
        quoted += scores if bandwidth >= FULL_BANDWIDTH else []
        patients.append(
            {
                "patient": subject,
                "n_slices": len(pieces),
                "bandwidth": round(bandwidth, 3),
                "quoted": bandwidth >= FULL_BANDWIDTH,
                **_mean(scores),
            }
        )
    if not quoted:
        raise DataError(f"{root}: every {split} patient was zero-filled by the scanner")
    return {
        "dataset": dataset,
        "split": split,
        "target": target,
        "reference": reference,
        "n_slices": len(quoted),
        **_mean(quoted),
        "all_patients": {"n_slices": len(everything), **_mean(everything)},
        "patients": patients,
    }


def _score(
    piece: Slice, target: str, reference: str, super_resolve: Callable[[Images, Images, Sequence[int]], Images]
) -> Scores:
    truth, guide = (piece.images[name].astype(np.float32) for name in (target, reference))
    low = degrade(torch.from_numpy(truth), np.random.default_rng(piece.index)).numpy()[None]
    predictions = {
        "model": super_resolve(low, guide[None], [piece.index]),
        "zero_filled": zero_filled(low, SCALE),
        "bicubic": aligned_bicubic(low, SCALE),
    }
    data_range = float(truth.max())
    return {
        name: {
            "psnr": psnr(image[0], truth, data_range),
            "ssim": ssim(image[0], truth, data_range),
            "nrmse": nrmse(image[0], truth),
        }
        for name, image in predictions.items()
    }


def _mean(scores: Sequence[Scores]) -> dict[str, Any]:
    means: dict[str, Any] = {
        method: {metric: round(float(np.mean([s[method][metric] for s in scores])), 4) for metric in scores[0][method]}
        for method in scores[0]
    }
    return {**means.pop("model"), **means}
