"""Undo, before a network sees the image, what can be undone; and bring its answer back onto the stored grid."""

from dataclasses import replace

import torch
from pydantic import ConfigDict, NonNegativeFloat
from pydantic.dataclasses import dataclass
from torch import Tensor

from diffmsr import kspace
from diffmsr.acquisition.model import Acquisition, Filter
from diffmsr.acquisition.transfer import acquired_matrix, filter_weights, partial_fourier_weights


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Undoing:
    """Which steps are taken."""

    crop: bool = True
    """Crop the k-space to what was acquired, where the scanner enlarged the image by more than `CROPPED_ABOVE`."""
    filter: bool = True
    """Divide the scanner's filter out."""
    partial_fourier: bool = True
    """Double the frequencies that zero-filled partial Fourier has left on one side only."""
    smooth: NonNegativeFloat = 0.001
    """Lambda of W / (W^2 + lambda) for a Hamming or Hanning filter: frequencies weakened to less than its root are not
    restored in full."""
    steep: NonNegativeFloat = 0.006
    """Lambda for the other filters. They end so abruptly that ringing is stronger than the signal that they leave."""


CROPPED_ABOVE = 1.03


def undo(stored: Tensor, acquisition: Acquisition, steps: Undoing = Undoing()) -> Tensor:
    """Magnitudes (..., h, w) as stored to (..., h', w'), h' <= h and w' <= w, of the same field of view and first
    pixel, without what can be undone of the acquisition; what is unknown is left alone. Not negative."""
    h, w = stored.shape[-2:]
    rows, columns = cropped_matrix(acquisition, h, w, steps)
    # Without a crop no transform either: what needs no undoing stays as it is, to the last bit.
    cropped = stored if (rows, columns) == (h, w) else kspace.crop(stored, rows, columns)
    weights = weights_to_divide(acquisition, rows, columns, steps)
    if weights is not None:
        of_filter = (acquisition.filter or Filter()).kind
        regularisation = steps.smooth if of_filter == "hamming" else steps.steep
        gain = weights * (1 + regularisation) / (weights**2 + regularisation)
        cropped = kspace.ifft2c(kspace.fft2c(cropped) * gain.to(cropped.device))
    return cropped.real.clamp_min(0)


def cropped_matrix(acquisition: Acquisition, h: int, w: int, steps: Undoing = Undoing()) -> tuple[int, int]:
    """The matrix that the network works on, of a stored one (h, w)."""
    if not steps.crop:
        return h, w
    rows, columns = acquired_matrix(acquisition, h, w)
    return (rows if h / rows > CROPPED_ABOVE else h), (columns if w / columns > CROPPED_ABOVE else w)


def weights_to_divide(acquisition: Acquisition, rows: int, columns: int, steps: Undoing = Undoing()) -> Tensor | None:
    """W on the cropped matrix; None where there is nothing to divide out."""
    after = replace(acquisition, extent=_extent_left(acquisition, steps))
    weights = torch.ones(rows, columns)
    if steps.filter:
        weights = weights * filter_weights(after, rows, columns)
    if steps.partial_fourier:
        weights = weights * partial_fourier_weights(after, rows, columns)
    return None if bool((weights == 1).all()) else weights


def left_over(acquisition: Acquisition, steps: Undoing = Undoing()) -> Acquisition:
    """What the network gets to know: the acquisition with extents as they are on the cropped matrix."""
    return replace(acquisition, extent=_extent_left(acquisition, steps))


def onto_stored_grid(images: Tensor, rows: int, columns: int) -> Tensor:
    """Images (..., s h', s w') of the cropped matrix on the fine grid (rows, columns) of the stored one, exactly aligned;
    not negative."""
    if images.shape[-2:] == (rows, columns):
        return images
    return kspace.zero_fill(images, rows, columns).real.clamp_min(0)


def onto_cropped_grid(images: Tensor, rows: int, columns: int) -> Tensor:
    """Reference images (..., s h, s w) on the fine grid (rows, columns) of the cropped matrix, exactly aligned."""
    if images.shape[-2:] == (rows, columns):
        return images
    return kspace.crop(images, rows, columns).real.clamp_min(0)


def _extent_left(acquisition: Acquisition, steps: Undoing) -> tuple[float | None, float | None]:
    if not steps.crop:
        return acquisition.extent
    first, second = (1.0 if e is not None and 1 / e > CROPPED_ABOVE else e for e in acquisition.extent)
    return first, second
