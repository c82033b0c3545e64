"""Acquisitions for training: what is left of them when a target reaches the network, and what the network knows about them."""

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat

from diffmsr.acquisition.estimate import WHOLE
from diffmsr.acquisition.model import FULL, Acquisition, Along, Filter, Kind

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]


@dataclass(frozen=True)
class Mix:
    """How acquisitions vary from sample to sample. A share is the probability that a sample has the property."""

    clean: Probability = 0.4
    """Share with nothing but a little noise (`[augmentation] noise`); the other shares are of the rest."""
    narrow: Probability = 0.35
    """Share acquired on less than the stored matrix along one axis, where the estimate is wrong by a little."""
    missed: NonNegativeFloat = 0.07
    """Largest error of that estimate, as a share of the extent."""
    unnoticed: Probability = 0.15
    """Share of these that the estimate does not notice at all."""
    narrowest: Annotated[float, Field(gt=0.5, le=1)] = 0.6
    """Smallest extent that goes unnoticed."""
    partial_fourier: Probability = 0.3
    """Share with 5/8, 6/8 or 7/8 partial Fourier along one axis, zero-filled or homodyne."""
    homodyne: Probability = 0.4
    """Share of those that are homodyne."""
    filter: Probability = 0.45
    """Share with a filter: Hamming, Tukey or Fermi."""
    strength: Range = (0.5, 1.0)
    """Of the filter, as a share of what the literature has: Hamming 0.92, Tukey 0.3, Fermi 0.06."""
    ellipse: Probability = 0.35
    noise: NonNegativeFloat = 0.04
    """Largest noise; it is this times the square of a uniform number, so small noise is frequent."""
    coils: Probability = 0.3
    """Share combined of 4 or 8 coils."""
    known: Probability = 0.75
    """Share of the facts (each by itself: filter, partial Fourier, shutter) that are known, so that they can be undone and
    given to the network. Noise is never among them (see `features`)."""


def draw_acquisition(mix: Mix, rng: np.random.Generator) -> tuple[Acquisition, Acquisition]:
    """An acquisition on the matrix that the network works on, and what is known of it; both from `rng`.

    Extents are what is left when the stack has been cropped: 1, unless the estimate was wrong.
    """
    if rng.random() < mix.clean:
        return FULL, _doubted(FULL, mix, rng)
    true = replace(
        FULL,
        extent=_extent(mix, rng),
        ellipse=bool(rng.random() < mix.ellipse),
        noise=float(mix.noise * rng.random() ** 2),
        coils=int(rng.choice([4, 8])) if rng.random() < mix.coils else 1,
    )
    if rng.random() < mix.partial_fourier:
        fraction, axis = float(rng.choice([5 / 8, 6 / 8, 7 / 8])), int(rng.integers(2))
        true = replace(
            true,
            partial_fourier=(fraction, 1.0) if axis == 0 else (1.0, fraction),
            homodyne=bool(rng.random() < mix.homodyne),
        )
    if rng.random() < mix.filter:
        true = replace(true, filter=_filter(mix, rng))
    return true, _doubted(true, mix, rng)


def _extent(mix: Mix, rng: np.random.Generator) -> tuple[float, float]:
    if rng.random() >= mix.narrow:
        return 1.0, 1.0
    lowest = mix.narrowest if rng.random() < mix.unnoticed else 1 - mix.missed
    left = float(rng.uniform(lowest, 1))
    return (left, 1.0) if rng.random() < 0.5 else (1.0, left)


_USUAL: tuple[tuple[Kind, float], ...] = (("hamming", 0.92), ("tukey", 0.3), ("fermi", 0.06))
_ALONG: tuple[Along, ...] = ("radial", "both", "rows", "columns")


def _filter(mix: Mix, rng: np.random.Generator) -> Filter:
    kind, usual = _USUAL[int(rng.integers(len(_USUAL)))]
    along = _ALONG[int(rng.choice(4, p=[0.5, 0.3, 0.1, 0.1]))]
    return Filter(kind, usual * float(rng.uniform(*mix.strength)), along)


def _doubted(true: Acquisition, mix: Mix, rng: np.random.Generator) -> Acquisition:
    """What an estimate knows about an acquisition: some facts not at all, the strength of a filter within a tenth."""
    known = rng.random(3) < mix.known
    slip = float(rng.uniform(0.9, 1.1))
    applied = true.filter
    assert applied is not None
    if applied.kind != "none":
        applied = replace(applied, strength=min(1.0, applied.strength * slip))
    return replace(
        true,
        extent=(1.0, 1.0) if min(e for e in true.extent if e is not None) > WHOLE - mix.missed else (None, None),
        filter=applied if known[0] else None,
        partial_fourier=true.partial_fourier if known[1] else (None, None),
        homodyne=true.homodyne if known[1] else None,
        ellipse=true.ellipse if known[2] else None,
        noise=None,
        coils=None,
    )
