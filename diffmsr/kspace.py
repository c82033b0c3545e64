"""Crop and zero-fill the centred k-space of images, whose last two axes are rows and columns.

Intensities keep their unit: a constant image stays that constant. Pixel i of the coarse grid lies on pixel s * i of
the fine one (grid offset 0), as when a scanner acquires less of the k-space of the same object.
"""

from math import inf

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

ROWS_AND_COLUMNS = (-2, -1)


def fft2c(image: Tensor) -> Tensor:
    """Image (..., H, W) to its centred k-space: unnormalised transform over rows and columns, never over the batch."""
    k: Tensor = torch.fft.fftshift(torch.fft.fft2(image, dim=ROWS_AND_COLUMNS), dim=ROWS_AND_COLUMNS)
    return k


def ifft2c(k: Tensor) -> Tensor:
    """The inverse of `fft2c`."""
    image: Tensor = torch.fft.ifft2(torch.fft.ifftshift(k, dim=ROWS_AND_COLUMNS), dim=ROWS_AND_COLUMNS)
    return image


def crop(image: Tensor, rows: int, columns: int) -> Tensor:
    """The image (..., rows, columns), complex, that the central (rows, columns) of the k-space of (..., H, W) give.

    Raises ValueError when the k-space has fewer rows or columns.
    """
    h, w = image.shape[-2:]
    if not (0 < rows <= h and 0 < columns <= w):
        raise ValueError(f"cannot crop the k-space of {h} x {w} pixels to {rows} x {columns}")
    return _resize(_resize(image, -1, columns), -2, rows)


def zero_fill(image: Tensor, rows: int, columns: int) -> Tensor:
    """The image (..., h, w) with zeros around its k-space: (..., rows, columns), complex. `crop` undoes it exactly.

    Raises ValueError when the k-space has more rows or columns.
    """
    h, w = image.shape[-2:]
    if rows < h or columns < w:
        raise ValueError(f"cannot zero-fill the k-space of {h} x {w} pixels to {rows} x {columns}")
    return _resize(_resize(image, -2, rows), -1, columns)


def with_centre(k: Tensor, centre: Tensor) -> Tensor:
    """The k-space `k` (..., H, W) with its central frequencies replaced by `centre` (..., h, w)."""
    replaced = k.clone()
    replaced[..., _centre(k.shape[-2], centre.shape[-2]), _centre(k.shape[-1], centre.shape[-1])] = centre
    return replaced


def put_back(missing: Tensor, rows: int, columns: int, is_complex: bool, reach: float = inf) -> Tensor:
    """What a real or complex image of `rows` x `columns` pixels has to gain, so that the centre of its k-space gains that of
    `missing` (..., h, w). With a finite `reach`, above 0, only low frequencies do: by a share of exp(-(f / reach)^2), where
    f is 0 at the centre and 1 at the edge of the measured band.
    """
    h, w = missing.shape[-2:]
    k = fft2c(missing)
    k = k * _low_frequencies(h, w, reach).to(k.device)
    if is_complex:
        return zero_fill(ifft2c(k), rows, columns)
    # The first frequency of an even size has no mirror image in the centre: taking the real part halves it.
    twice = torch.ones_like(k.real)
    if h % 2 == 0 and h < rows:
        twice[..., 0, :] = 2
    if w % 2 == 0 and w < columns:
        twice[..., :, 0] = 2
    return zero_fill(ifft2c(k * twice), rows, columns).real


def _low_frequencies(h: int, w: int, reach: float) -> Tensor:
    """(h, w): 1 at the centre of k-space, 1 / e at `reach` of the way to its edge."""
    down, across = ((torch.arange(n) - n // 2) / (n / 2 * reach) for n in (h, w))
    return torch.exp(-(down[:, None].square() + across.square()))


def crop_to(image: ArrayLike, rows: int, columns: int) -> NDArray[np.float32]:
    """Magnitude of numpy images (..., H, W) with their k-space cropped, float32 (..., rows, columns)."""
    cropped = crop(torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)), rows, columns)
    magnitude: NDArray[np.float32] = cropped.abs().numpy()
    return magnitude


def _resize(image: Tensor, axis: int, size: int) -> Tensor:
    """Crop or zero-fill the k-space along one axis. One axis after the other, most transforms are of few lines."""
    old = image.shape[axis]
    k = torch.fft.fftshift(torch.fft.fft(image, dim=axis, norm="forward"), dim=axis)
    if size < old:
        k = k.narrow(axis, _centre(old, size).start, size)
    elif size > old:
        filled = k.new_zeros([size if axis % k.ndim == i else n for i, n in enumerate(k.shape)])
        filled.narrow(axis, _centre(size, old).start, old).copy_(k)
        k = filled
    resized: Tensor = torch.fft.ifft(torch.fft.ifftshift(k, dim=axis), dim=axis, norm="forward")
    return resized


def _centre(large: int, small: int) -> slice:
    """The place of `small` samples in `large` ones, with the zero frequency (index n // 2) of both at the same place."""
    start = large // 2 - small // 2
    return slice(start, start + small)
