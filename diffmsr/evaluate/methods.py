"""What is compared: weights, and ways of enlarging that know nothing of anatomy."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from diffmsr.arrays import Pixels
from diffmsr.baselines import aligned_bicubic, zero_filled
from diffmsr.data import SCALE
from diffmsr.inference import SuperResolver

Method = Callable[[Pixels, Pixels, Sequence[int]], Pixels]
"""Targets (n, h, w), references (n, 4 h, 4 w) and seeds of the noise to images (n, 4 h, 4 w), as a SuperResolver."""

ZERO_FILLED, BICUBIC = "zero_filled", "bicubic"
TAKEN = {
    *(
        ZERO_FILLED,
        BICUBIC,
        "dataset",
        "split",
        "target",
        "reference",
        "metric",
        "reference_shift",
        "without_reference",
    ),
    *(
        "foreign_reference",
        "definitions",
        "notes",
        "methods",
        "n_slices",
        "n_patients",
        "psnr",
        "ssim",
        "nrmse",
        "hfen",
    ),
    *("intervals", "all_patients", "without_pair", "patients", "patient", "site", "bandwidth", "quoted"),
    *("over", "level", "resamples", "gains"),
}
"""Names beside which a method's row stands in the figures that `evaluate` gives."""


def names_of(folders: Sequence[Path]) -> dict[str, Path]:
    """Weights folders by a name for each: the folder's own, or its whole path where that is taken or not unique. A folder
    given twice counts once."""
    once: dict[Path, Path] = {}
    for folder in folders:
        once.setdefault(folder.resolve(), folder)
    names = [path.name for path in once]
    return {
        path.name if names.count(path.name) == 1 and path.name not in TAKEN else str(path): folder
        for path, folder in once.items()
    }


def compared(weights: Mapping[str, Method]) -> dict[str, Method]:
    """The weights, then the methods that know less."""
    return {
        **weights,
        ZERO_FILLED: lambda low, guide, seeds: zero_filled(low, SCALE),
        BICUBIC: lambda low, guide, seeds: aligned_bicubic(np.abs(low), SCALE),
    }


def input_kinds(weights: Mapping[str, Method]) -> dict[str, str]:
    """What each compared method takes, `magnitude` or `complex`; zero-filling and interpolation take what the first
    weights do."""
    kinds = {
        name: method.manifest.input_kind if isinstance(method, SuperResolver) else "magnitude"
        for name, method in weights.items()
    }
    first = next(iter(kinds.values()))
    return {name: kinds.get(name, first) for name in compared(weights)}
