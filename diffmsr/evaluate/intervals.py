"""How sure a mean is: bootstrap intervals over patients, because the slices of one patient resemble each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
LEVEL = 0.95

Scores = Mapping[str, Mapping[str, float]]
"""Metric by method and name."""


def mean(scores: Sequence[Scores]) -> Scores:
    """The mean over slices."""
    return {
        method: {metric: float(np.mean([of[method][metric] for of in scores])) for metric in scores[0][method]}
        for method in scores[0]
    }


def interval(patients: Sequence[Sequence[Scores]], first: str, seed: int = 0) -> dict[str, Any]:
    """Percentile intervals of the means over slices, by metric for the method `first`, and by method for the others.

    Patients are drawn with replacement; of one patient, slices are. `gains` holds the paired differences, first minus
    other method, with their intervals.
    """
    one = len(patients) == 1
    groups = [[slice_scores] for slice_scores in patients[0]] if one else patients
    draws = np.random.default_rng(seed).integers(len(groups), size=(RESAMPLES, len(groups)))
    counts = np.array([len(group) for group in groups], dtype=float)

    def of(values: Sequence[Sequence[float]]) -> list[float]:
        sums = np.array([sum(group) for group in values])
        return _percentiles(sums[draws].sum(axis=1) / counts[draws].sum(axis=1))

    def gain(scores: Scores, method: str, metric: str) -> float:
        return scores[first][metric] - scores[method][metric]

    methods = groups[0][0]
    absolute = {
        method: {metric: of([[s[method][metric] for s in group] for group in groups]) for metric in row}
        for method, row in methods.items()
    }
    gains = {
        method: {
            metric: {
                "mean": round(float(np.mean([gain(s, method, metric) for group in groups for s in group])), 4),
                "interval": of([[gain(s, method, metric) for s in group] for group in groups]),
            }
            for metric in row
        }
        for method, row in methods.items()
        if method != first
    }
    return {
        "over": "slices" if one else "patients",
        "level": LEVEL,
        "resamples": RESAMPLES,
        **absolute.pop(first),
        **absolute,
        "gains": gains,
    }


def percentile_interval(values: Sequence[float], seed: int = 0) -> list[float]:
    """The interval of the mean of values that do not depend on each other."""
    draws = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    return _percentiles(np.asarray(values)[draws].mean(axis=1))


def _percentiles(means: NDArray[np.float64]) -> list[float]:
    tail = 50 * (1 - LEVEL)
    return [round(float(value), 4) for value in np.percentile(means, [tail, 100 - tail])]
