"""Which extent, partial Fourier and filter explain a line of log energy, by a Gaussian model of what anatomy looks like.

Without a scanner's marks the log energy of a head is close to a parabola of log frequency, with a small residual; the
parabola varies little from patient to patient (`SLOPE`, `BEND`: measured on the training patients). A candidate adds
its own marks: a filter bends the line, partial Fourier lowers its outer part by log 4, and beyond the acquired edge
there is a floor. All of it is linear and Gaussian, so the evidence of a candidate has a closed form.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from diffmsr.acquisition.model import Filter
from diffmsr.acquisition.transfer import curve

Floats = NDArray[np.float64]

MEAN = np.array([0.0, 3.12, -0.61, -4.0, -2.0])
"""Of level, slope (per -log k), bend (per log^2 k), floor below the line's end, and slope of the floor."""
COVARIANCE = np.zeros((5, 5))
COVARIANCE[0, 0] = 30.0**2
COVARIANCE[1:3, 1:3] = 2 * np.array([[0.240, -0.080], [-0.080, 0.0383]])
COVARIANCE[3, 3], COVARIANCE[4, 4] = 2.2**2, 3.0**2
RESIDUAL = 0.13
"""Standard deviation of log energy about the parabola: 0.10 was measured over the training patients."""
WAVES, WAVELENGTH = 0.12, 0.2
"""Deviation and length, in log k, of the waves that a single head's spectrum adds to that."""

LOWEST = 0.12
"""Frequencies below this share of the stored edge show the head's outline, and do not count."""
NARROWEST = 0.45
"""The smallest extent that is considered."""
HALVED = -1.2
"""What zero-filled partial Fourier adds to the log energy of one-sided frequencies. Half the amplitude would be -1.39;
the imaginary part that the magnitude keeps gives some of it back."""
FLOOR_FOLLOWS = 0.75
"""How much of a filter's log weight at the acquired edge the floor beyond it follows."""

FRACTIONS = (1.0, 7 / 8, 6 / 8, 5 / 8)
"""Of partial Fourier, as scanners offer it."""
FLATTENING = (0.0, 0.3, 1.0, 3.0)
"""Noise energy at the edge, in units of the anatomy's energy there."""
FILTERS = (
    Filter(),
    *(Filter("hamming", s) for s in (0.3, 0.46, 0.6, 0.75, 0.92, 1.0)),
    *(Filter("tukey", s) for s in (0.15, 0.3, 0.5)),
    *(Filter("fermi", s) for s in (0.03, 0.045, 0.06, 0.08, 0.12)),
)
CORNER = float(np.sqrt(2))
"""Distance of the corner of the acquired rectangle, in units of its half sides."""


def axis_evidence(k: Floats, log_energy: Floats, stored: int, counts: Sequence[int]) -> tuple[Floats, float]:
    """The log evidence of an axis profile for acquired matrices of `counts` samples of a stored one: (counts,
    fractions, filters, flattenings). And the squared distance of the candidate that fits best, per bin: about 1 or less
    for a head, however it was acquired, and far more for images that the model does not describe."""
    tables, misfit = [], np.inf
    for acquired in counts:
        edge = acquired / stored
        usable = (k > LOWEST) & (
            np.abs(k - edge) * stored >= 0.5
        )  # the sample on an even matrix's edge has one side only
        relative = np.minimum(k[usable] / edge, 1.0)
        marks = (
            _halved(relative)[:, None, None]
            + np.stack([_filtered(curve_of(f, relative), relative) for f in FILTERS])[None, :, None]
            + _flattened(relative)[None, None, :]
        )
        table, squares = _log_evidence(k[usable], log_energy[usable], edge, marks)
        tables.append(table)
        misfit = min(misfit, squares / usable.sum())
    return np.stack(tables), misfit


def diagonal_evidence(radius: Floats, log_energy: Floats, applied: Filter, fraction: float) -> Floats:
    """The log evidence of a diagonal profile when the axes have this filter and partial Fourier: (with and without an
    ellipse, filter radial and a product of both axes)."""
    usable = (radius > LOWEST) & (np.abs(radius - 1) > 0.04)
    k = radius[usable] / CORNER
    halved = np.where(k > 2 * fraction - 1, HALVED, 0.0) if fraction < 1 else 0 * k
    table = np.zeros((2, 2))
    for i, edge in enumerate((1 / CORNER, 1.0)):
        within = np.minimum(k, edge)
        shapes = (curve_of(applied, CORNER * within), curve_of(applied, within) ** 2)
        marks = np.stack([_filtered(shape, within / edge) for shape in shapes]) + halved
        evidence, _ = _log_evidence(k, log_energy[usable], edge, marks[:, None] + _flattened(within / edge))
        table[i] = np.logaddexp.reduce(evidence, axis=1)
    return table


def curve_of(applied: Filter, k: Floats) -> Floats:
    """A filter's weight, at least 0.01: anything weaker is lost in the floor."""
    weights: Floats = np.maximum(curve(applied, torch.from_numpy(k)).numpy(), 0.01)
    return weights


def _log_evidence(k: Floats, y: Floats, edge: float, marks: Floats) -> tuple[Floats, float]:
    """Log density of y (bins,), which ends at `edge`, with marks (..., bins): (...). And the smallest squared distance."""
    inward, beyond = np.minimum(k, edge), k > edge
    basis = np.stack([np.ones_like(k), -np.log(inward), np.log(inward) ** 2, beyond, beyond * (k - edge)], axis=1)
    apart = np.log(k)[:, None] - np.log(k)[None, :]
    waves = WAVES**2 * np.exp(-0.5 * (apart / WAVELENGTH) ** 2)
    factor = np.linalg.cholesky(basis @ COVARIANCE @ basis.T + waves + RESIDUAL**2 * np.eye(len(y)))
    away = (y - basis @ MEAN - marks).reshape(-1, len(y)).T
    squares = np.square(np.linalg.solve(factor, away)).sum(axis=0)
    values = -0.5 * squares - np.log(np.diag(factor)).sum() - 0.5 * len(y) * np.log(2 * np.pi)
    return np.asarray(values.reshape(marks.shape[:-1])), float(squares.min())


def _halved(relative: Floats) -> Floats:
    """What partial Fourier adds at frequencies relative to the edge: (fractions, bins). The floor is not lowered."""
    one_sided = [(relative > 2 * f - 1) & (relative < 1) for f in FRACTIONS]
    return np.where(np.stack(one_sided), HALVED, 0.0)


def _filtered(weights: Floats, relative: Floats) -> Floats:
    return np.where(relative < 1, 2.0, 2 * FLOOR_FOLLOWS) * np.log(weights)


def _flattened(relative: Floats) -> Floats:
    """What noise adds, which passes the filter as the anatomy does: (flattenings, bins)."""
    relative = np.maximum(relative, 1e-3)
    above = np.exp(-MEAN[1] * np.log(relative) + MEAN[2] * np.log(relative) ** 2)  # energy, of that at the edge
    added = np.stack([np.log1p(r / above) for r in FLATTENING])
    return np.where(relative < 1, added, 0.0)
