"""How an acquisition weighs k-space: what it kept, and by how much its filter weakened it."""

import torch
from torch import Tensor

from diffmsr.acquisition.model import FERMI_RADIUS, Acquisition, End, Filter


def acquired_matrix(acquisition: Acquisition, rows: int, columns: int) -> tuple[int, int]:
    """Acquired samples along each axis of a stored matrix; an unknown extent counts as all of it."""
    shares = ((1.0 if e is None else e) for e in acquisition.extent)
    acquired_rows, acquired_columns = (max(2, round(e * n)) for e, n in zip(shares, (rows, columns), strict=True))
    return min(acquired_rows, rows), min(acquired_columns, columns)


def frequencies(stored: int, acquired: int) -> Tensor:
    """Centred frequencies (stored,) of one axis, in units of the acquired edge: beyond 1 nothing was acquired."""
    return (torch.arange(stored) - stored // 2) / (acquired / 2)


def kept(acquisition: Acquisition, rows: int, columns: int) -> Tensor:
    """Which samples (rows, columns) of the stored k-space were measured, 0 or 1."""
    acquired = acquired_matrix(acquisition, rows, columns)
    lines = [
        _band(n, a) & _sampled(frequencies(n, a), f or 1.0, end)
        for n, a, f, end in zip(
            (rows, columns), acquired, acquisition.partial_fourier, acquisition.missing, strict=True
        )
    ]
    mask = lines[0][:, None] & lines[1][None, :]
    if acquisition.ellipse:
        mask &= _radius(rows, columns, acquired) <= 1
    return mask.float()


def filter_weights(acquisition: Acquisition, rows: int, columns: int) -> Tensor:
    """The filter's weights (rows, columns), from 0 to 1; an unknown filter counts as none."""
    applied = acquisition.filter or Filter()
    acquired = acquired_matrix(acquisition, rows, columns)
    if applied.kind == "none":
        return torch.ones(rows, columns)
    if applied.along == "radial":
        return curve(applied, _radius(rows, columns, acquired))
    y, x = (curve(applied, frequencies(n, a).abs()) for n, a in zip((rows, columns), acquired, strict=True))
    if applied.along == "rows":
        return y[:, None].expand(rows, columns)
    if applied.along == "columns":
        return x[None, :].expand(rows, columns)
    return y[:, None] * x[None, :]


def curve(applied: Filter, k: Tensor) -> Tensor:
    """A filter's weight at frequencies `k`, not negative, in units of the acquired edge."""
    s = applied.strength
    if applied.kind == "none" or s == 0:
        return torch.ones_like(k)
    if applied.kind == "hamming":
        return 1 - s * (1 - torch.cos(torch.pi * k.clamp(max=1))) / 2
    if applied.kind == "tukey":
        return (1 + torch.cos(torch.pi * ((k - 1 + s) / s).clamp(0, 1))) / 2
    return 1 / (1 + torch.exp((k - FERMI_RADIUS) / s))


def partial_fourier_weights(acquisition: Acquisition, rows: int, columns: int) -> Tensor:
    """How much of each frequency (rows, columns) zero-filled partial Fourier leaves in a magnitude image.

    Where one side of k-space is missing, the real part of the image, which a smooth phase makes nearly all of the
    magnitude, keeps half of the frequency. Homodyne reconstruction, or an unknown fraction, leaves everything.
    """
    weights = torch.ones(rows, columns)
    if acquisition.homodyne:
        return weights
    acquired = acquired_matrix(acquisition, rows, columns)
    for axis, (n, a, f) in enumerate(zip((rows, columns), acquired, acquisition.partial_fourier, strict=True)):
        if f is not None and f < 1:
            halved = torch.where(frequencies(n, a).abs() > 2 * f - 1, 0.5, 1.0)
            weights = weights * (halved[:, None] if axis == 0 else halved[None, :])
    return weights


def _band(stored: int, acquired: int) -> Tensor:
    """The acquired samples of an axis: as `kspace.crop` takes them, zero frequency to zero frequency."""
    index = torch.arange(stored) - (stored // 2 - acquired // 2)
    return (index >= 0) & (index < acquired)


def _sampled(k: Tensor, fraction: float, missing: End) -> Tensor:
    """The samples of an axis that partial Fourier leaves."""
    return (k if missing == "first" else -k) >= -(2 * fraction - 1) if fraction < 1 else torch.ones_like(k).bool()


def _radius(rows: int, columns: int, acquired: tuple[int, int]) -> Tensor:
    y, x = (frequencies(n, a) for n, a in zip((rows, columns), acquired, strict=True))
    return torch.sqrt(y[:, None] ** 2 + x[None, :] ** 2)
