"""Slices on which super-resolution fails, so that the trust map has seen what failing looks like.

A network that only ever saw good references on heads would be as sure of itself on anything else. So a part of the samples
has a reference of another patient or place, a displaced one, or shows no anatomy at all. Their errors are the real ones of the
frozen weights; nothing is made up but the images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from scipy.ndimage import gaussian_filter, shift

from diffmsr.arrays import Magnitudes
from diffmsr.data import Slice, usual_pair

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Corruption:
    """How many samples are corrupted. A share is the probability that a sample is."""

    foreign: Share = 0.12
    """Whose reference is that of another slice, mostly of another patient."""
    displaced: Share = 0.12
    """Whose reference is displaced."""
    displacement: PositiveFloat = 20.0
    """By at most so many high-resolution pixels along each axis."""
    phantom: Share = 0.15
    """That show an invented phantom, in target and reference, instead of a head."""


def corrupted(piece: Slice, pool: Sequence[Slice], rng: np.random.Generator, shares: Corruption) -> Slice:
    """The slice, or what corruption makes of it."""
    kinds = np.cumsum([shares.foreign, shares.displaced, shares.phantom])
    kind = int(np.searchsorted(kinds, rng.random(), side="right"))
    if kind == 3:
        return piece
    target, reference = usual_pair(piece.images)
    shape = piece.images[target].shape
    if kind == 0:
        other = pool[int(rng.integers(len(pool)))]
        guide = _fitted(other.images[usual_pair(other.images)[1]], shape)
        return replace(piece, images={target: piece.images[target], reference: guide})
    if kind == 1:
        by = rng.uniform(-shares.displacement, shares.displacement, 2)
        moved = np.clip(shift(piece.images[reference].astype(np.float32), by, order=1), 0, None)
        return replace(piece, images={target: piece.images[target], reference: moved})
    return replace(piece, images=dict(zip((target, reference), phantom(shape, rng), strict=True)))


def _fitted(image: Magnitudes, shape: tuple[int, ...]) -> Magnitudes:
    """An image, cropped or filled with zeros around its middle."""
    fitted = np.zeros(shape, dtype=np.float32)
    size = [min(a, b) for a, b in zip(image.shape, shape, strict=True)]
    here, there = (
        tuple(slice((whole - n) // 2, (whole - n) // 2 + n) for whole, n in zip(of, size, strict=True))
        for of in (shape, image.shape)
    )
    fitted[here] = image[there]
    return fitted


def phantom(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Magnitudes, Magnitudes]:
    """Target and reference (h, w) of one invented object: a filled body with ellipses, boxes, gratings and texture, each with a
    brightness of its own in either image, some of them in one only; blurred by less than a pixel."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    half = np.array(shape) / 2
    body = _ellipse(rows, columns, half, half * rng.uniform(0.6, 0.95, 2), 0.0, box=rng.random() < 0.3)
    images = [body * np.float32(rng.uniform(0.2, 0.8)) for _ in range(2)]
    for _ in range(int(rng.integers(5, 30))):
        centre = half + half * rng.uniform(-0.8, 0.8, 2)
        radii = half * np.exp(rng.uniform(np.log(0.02), np.log(0.4), 2))
        inside = _ellipse(rows, columns, centre, radii, rng.uniform(0, np.pi), box=rng.random() < 0.5) & body
        pattern: NDArray[np.float32] = np.ones(shape, dtype=np.float32)
        if rng.random() < 0.3:
            angle, period = rng.uniform(0, np.pi), rng.uniform(2.5, 16)
            wave = np.sin((np.cos(angle) * rows + np.sin(angle) * columns) * 2 * np.pi / period)
            pattern = (wave > 0).astype(np.float32)
        for image in images:
            if rng.random() < 0.85:
                image[inside] = pattern[inside] * np.float32(rng.uniform(0, 1))
    grain = gaussian_filter(rng.normal(size=shape).astype(np.float32), rng.uniform(0.5, 4))
    grain *= np.float32(rng.uniform(0, 0.15)) / (grain.std() or 1.0)
    blur = rng.uniform(0.3, 0.9)
    first, second = (np.clip(gaussian_filter(image + grain * body, blur), 0, None) for image in images)
    return first.astype(np.float32), second.astype(np.float32)


def _ellipse(
    rows: NDArray[np.float32], columns: NDArray[np.float32], centre: NDArray[np.float64], radii: NDArray[np.float64],
    angle: float, box: bool,
) -> NDArray[np.bool_]:  # fmt: skip
    """A mask of an ellipse, or of its box."""
    y, x = rows - centre[0], columns - centre[1]
    u = (np.cos(angle) * y + np.sin(angle) * x) / radii[0]
    v = (np.cos(angle) * x - np.sin(angle) * y) / radii[1]
    inside: NDArray[np.bool_] = (np.maximum(abs(u), abs(v)) if box else u**2 + v**2) < 1
    return inside
