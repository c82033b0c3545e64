"""From what the network says to what patients showed: monotone curves, fitted on patients whom the fit never saw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from diffmsr.arrays import Magnitudes

SHARE = 0.9
"""Of the true errors that are to lie within the limit."""
GAIN_BINS = 12
"""Knots of the gain, each with as many slices."""
LEAST = 1e-3
"""Share of all pixels that a bin needs to count."""


@dataclass(frozen=True)
class Curve:
    """A monotone function of positive numbers, linear between its knots in logarithms. Beyond them the factor of the last
    knot stays."""

    at: tuple[float, ...]
    """Rising, as shares of the slice's maximum."""
    gives: tuple[float, ...]

    def __call__(self, values: Magnitudes) -> Magnitudes:
        """The function of each value."""
        factor = np.log(self.gives) - np.log(self.at)
        result: Magnitudes = values * np.exp(np.interp(np.log(values), np.log(self.at), factor)).astype(np.float32)
        return result


@dataclass(frozen=True)
class Gain:
    """A factor for a whole slice, which rises with the disagreement of target and reference: linear between knots, and the factor of
    the last knot beyond them."""

    at: tuple[float, ...]
    """1 less the agreement, rising."""
    gives: tuple[float, ...]

    def __call__(self, disagreement: NDArray[np.float32]) -> NDArray[np.float32]:
        """The factor for each slice."""
        return np.interp(disagreement, self.at, self.gives).astype(np.float32)


@dataclass(frozen=True)
class Calibration:
    """What a prediction means."""

    gain: Gain
    """By which it is multiplied first."""
    expected: Curve
    """From a prediction to the mean of the absolute error."""
    limit: Curve
    """From that mean to what nine of ten absolute errors stay below."""


IDENTITY = Calibration(Gain((0.0, 1.0), (1.0, 1.0)), Curve((1e-3, 1.0), (1e-3, 1.0)), Curve((1e-3, 1.0), (1e-3, 1.0)))
"""Before it is calibrated."""


class ErrorHistogram:
    """Pixels by what was predicted for them and by their true error, in logarithmic bins, as shares of the slice's maximum."""

    PREDICTED = np.geomspace(1e-4, 1.0, 49)
    TRUE = np.geomspace(1e-5, 2.0, 241)

    def __init__(self) -> None:
        shape = len(self.PREDICTED) - 1, len(self.TRUE) - 1
        self.counts: NDArray[np.float64] = np.zeros(shape)
        self.errors: NDArray[np.float64] = np.zeros(shape[0])
        """Sum of the true errors of each row."""
        self.predictions: NDArray[np.float64] = np.zeros(shape[0])

    def add(self, predicted: Magnitudes, error: Magnitudes) -> None:
        """Count pixels: two arrays (n,)."""
        row = np.clip(np.digitize(predicted, self.PREDICTED) - 1, 0, len(self.errors) - 1)
        column = np.clip(np.digitize(error, self.TRUE) - 1, 0, self.counts.shape[1] - 1)
        np.add.at(self.counts, (row, column), 1)
        self.errors += np.bincount(row, error, minlength=len(self.errors))
        self.predictions += np.bincount(row, predicted, minlength=len(self.errors))

    def scaled(self) -> "ErrorHistogram":
        """The same with a weight of 1 in all."""
        other, total = ErrorHistogram(), self.counts.sum() or 1.0
        other.counts, other.errors, other.predictions = (
            self.counts / total, self.errors / total, self.predictions / total,
        )  # fmt: skip
        return other


def gain_of(disagreement: Sequence[float], predicted: Sequence[float], error: Sequence[float]) -> Gain:
    """The gain by which slices of mean prediction and mean true error are right on average at every disagreement. Raises ValueError
    without a slice."""
    if not disagreement:
        raise ValueError("no slice to calibrate with")
    order = np.argsort(disagreement)
    parts = [part for part in np.array_split(order, GAIN_BINS) if len(part)]
    at = [float(np.mean([disagreement[i] for i in part])) for part in parts]
    ratio = [float(np.mean([np.log(error[i] / predicted[i]) for i in part])) for part in parts]
    rising = np.exp(isotonic_regression(ratio, weights=[len(part) for part in parts]).x)
    return Gain(tuple(float(f"{x:.4g}") for x in at), tuple(float(f"{y:.4g}") for y in rising))


def curves_of(gain: Gain, histograms: Sequence[ErrorHistogram]) -> Calibration:
    """The calibration by which predictions, after their gain, mean what they say, on average over histograms of equal weight.
    Raises ValueError when there are too few pixels."""
    parts = [histogram.scaled() for histogram in histograms if histogram.counts.any()]
    counts, errors, predictions = (
        np.sum([getattr(part, name) for part in parts], axis=0) for name in ("counts", "errors", "predictions")
    )
    used = counts.sum(axis=-1) > LEAST * len(parts)
    if not parts or used.sum() < 2:
        raise ValueError("too few pixels of different predictions to calibrate with")
    counts, errors, predictions = counts[used], errors[used], predictions[used]
    weight = counts.sum(axis=1)
    # Predictions whose mean errors do not rise become one knot.
    blocks = isotonic_regression(errors / weight, weights=weight).blocks[:-1]
    counts, errors, predictions, weight = (np.add.reduceat(of, blocks) for of in (counts, errors, predictions, weight))
    mean = errors / weight
    limit = np.log([_quantile(row, SHARE) for row in counts])
    return Calibration(
        gain, _curve(predictions / weight, mean), _curve(mean, np.exp(isotonic_regression(limit, weights=weight).x))
    )


def _quantile(counts: NDArray[np.float64], share: float) -> float:
    """The error below which a share of a row's pixels lies."""
    below = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    return float(np.exp(np.interp(share, below, np.log(ErrorHistogram.TRUE))))


def _curve(at: NDArray[np.float64], gives: NDArray[np.float64]) -> Curve:
    return Curve(tuple(float(f"{x:.5g}") for x in at), tuple(float(f"{y:.5g}") for y in gives))
