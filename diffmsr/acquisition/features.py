"""An acquisition as the numbers that a network gets."""

import torch
from torch import Tensor

from diffmsr.acquisition.model import Acquisition, Filter
from diffmsr.acquisition.transfer import curve

SAMPLES = 10
FEATURES = 6 + SAMPLES
"""Missing extent along rows and columns, missing share of partial Fourier (positive where the first end is missing),
homodyne, ellipse, and what the filter takes away at ten frequencies. Noise is left out: the air shows all of it, and the
network has to leave the part that a full acquisition would have as well. Told of it, it took both away
(docs/acquisition.md)."""


def features(acquisition: Acquisition | None) -> Tensor:
    """(FEATURES,) float32, of the order of 1. Zero is both "nothing" and "unknown": headers often leave facts out, and a
    network that knows nothing should do what suits most images."""
    a = acquisition or Acquisition()
    extents = [4 * (1 - (e or 1.0)) for e in a.extent]
    partial = [
        2 * (1 - (f or 1.0)) * (1 if end == "first" else -1)
        for f, end in zip(a.partial_fourier, a.missing, strict=True)
    ]
    numbers = [*extents, *partial, float(bool(a.homodyne)), float(bool(a.ellipse))]
    applied = a.filter or Filter()
    share = 1.0 if applied.along in ("both", "radial") else 0.5  # of the axes that the filter works along
    taken = share * (1 - curve(applied, torch.linspace(0.1, 1, SAMPLES)))
    return torch.cat([torch.tensor(numbers, dtype=torch.float32), taken])
