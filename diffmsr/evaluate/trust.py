"""Whether a trust map is right: expected beside true errors, by acquisition, and with references that mislead."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from diffmsr.acquisition import NAMED, estimate, header_of
from diffmsr.arrays import Magnitudes
from diffmsr.data import DataError, Slice, as_tensor, subject_bandwidth
from diffmsr.evaluate.acquisitions import Trial, simulated_stack, stacks, trials
from diffmsr.evaluate.run import FULL_BANDWIDTH
from diffmsr.evaluate.selection import select
from diffmsr.inference import SuperResolver
from diffmsr.progress import followed
from diffmsr.trust import Curve, has_tissue, summarise, tissue_of

BINS = 10
"""Rows of the reliability table, each with as many pixels."""
SPARSE = 7
"""Every so many pixels of the tissue are ranked."""
MISLEADING = {"foreign reference": "foreign", "reference shifted by 8": "shifted", "empty reference": "empty"}
"""References that are not the target's, on clean targets. Shifted is by so many high-resolution pixels along both axes."""


@dataclass(frozen=True)
class Judged:
    """One slice: true and expected errors of its tissue (n,), as shares of the slice's maximum as the network saw it."""

    expected: Magnitudes
    error: Magnitudes
    disagreement: float
    """Of target and reference, from 0 to 1."""
    summary: float
    """The `expected` of its summary."""
    unsure: float


def judged_stack(
    stack: Sequence[Slice],
    trial: Trial,
    target: str,
    reference: str,
    resolver: SuperResolver,
    every: int,
    guide: str = "",
) -> list[Judged]:
    """Every so many slices of a stack, as `evaluate_acquisitions` simulates, estimates and restores them, without those that
    show hardly any tissue. `guide` is one of `MISLEADING`'s values, or empty for the reference as it is."""
    stored = simulated_stack(stack, target, trial.true)
    acquisition = estimate(stored, trial.header).acquisition
    indices = range(0, len(stack), every)
    restored = []
    for i in indices:
        lead = _guide(stack, i, reference, guide)[None]
        try:
            restored.append(resolver.restore(stored[i : i + 1], lead, [stack[i].index], acquisition))
        except ValueError as wrong:  # a size that the network cannot take
            raise DataError(f"{stack[i].subject}: {wrong}") from None
    images = np.concatenate([r.images for r in restored])
    expected = np.concatenate([_expected(r.expected_error) for r in restored])
    summary, tissue = summarise(images, expected), tissue_of(images)
    judged = []
    for n, i in enumerate(indices):
        if not has_tissue(tissue[n]):
            continue
        truth = as_tensor(stack[i].images[target]).abs().numpy()
        inside, unit = tissue[n], float(restored[n].unit.item())
        error = np.abs(images[n] - truth)[inside] / unit
        apart = float(_expected(restored[n].disagreement)[0])
        judged.append(Judged(expected[n][inside] / unit, error, apart, summary.expected[n], summary.unsure[n]))
    return judged


def _expected(errors: Magnitudes | None) -> Magnitudes:
    if errors is None:
        raise DataError("these weights have no trust map; train one with diffmsr train-trust")
    return errors


def _guide(stack: Sequence[Slice], i: int, reference: str, how: str) -> Magnitudes:
    own: Magnitudes = as_tensor(stack[i].images[reference]).abs().numpy()
    match how:
        case "foreign":  # of the same patient, half a stack away, mirrored: no anatomy fits
            far = as_tensor(stack[(i + len(stack) // 2) % len(stack)].images[reference]).abs().numpy()
            return np.ascontiguousarray(far[:, ::-1])
        case "shifted":
            return np.roll(own, (8, 8), axis=(0, 1))
        case "empty":
            return np.zeros_like(own)
        case _:
            return own


def evaluate_trust(
    dataset: str,
    root: Path,
    resolver: SuperResolver,
    names: Sequence[str] = (),
    target: str | None = None,
    reference: str | None = None,
    split: str | None = None,
    every: int = 1,
) -> dict[str, Any]:
    """Expected beside true errors in tissue, for each named acquisition and for references that mislead. Raises DataError.

    Errors are shares of a slice's maximum. `rank, pixels` is the mean over slices of Spearman's correlation between
    expected and true error of their pixels; `rank, slices` that of the means of slices; `within` the share of true errors
    below the predicted limit of 90 %. `summary` is what the node grades a result by: the mean expected error of a slice's
    tissue over its mean intensity.
    """
    selection = select(dataset, root, target, reference, split)
    target, reference = selection.target, selection.reference
    full = {s: p for s, p in selection.patients.items() if subject_bandwidth(p, target) >= FULL_BANDWIDTH}
    full = full or dict(selection.patients)
    clean = Trial("clean", NAMED["clean"], header_of("clean"))
    runs = [(trial.name, trial, "") for trial in trials(names)] + [(n, clean, how) for n, how in MISLEADING.items()]
    limit = None if resolver.trust is None else resolver.trust.calibration.limit
    rows, pooled = {}, list[Judged]()
    for name, trial, how in runs:
        judged = [
            one
            for _, pieces in followed(full.items(), f"patients, {name}")
            for stack in stacks(pieces, target)
            for one in judged_stack(stack, trial, target, reference, resolver, every, how)
        ]
        rows[name] = _row(judged, limit)
        pooled += [] if how else judged
    return {
        "dataset": dataset, "split": selection.split, "target": target, "reference": reference,
        "n_patients": len(full), "rows": rows, "reliability": _reliability(pooled, limit),
    }  # fmt: skip


def _row(judged: Sequence[Judged], limit: Curve | None) -> dict[str, Any]:
    expected = np.array([one.expected.mean() for one in judged])
    true = np.array([one.error.mean() for one in judged])
    within = [_within(one.expected, one.error, limit) for one in judged]
    ranks = [spearmanr(one.expected[::SPARSE], one.error[::SPARSE]).statistic for one in judged]
    summaries = np.array([one.summary for one in judged])
    return {
        "n_slices": len(judged),
        "expected": _rounded(expected.mean()),
        "true": _rounded(true.mean()),
        "rank, pixels": _rounded(np.mean(ranks)),
        "rank, slices": _rounded(spearmanr(expected, true).statistic) if len(judged) > 2 else None,
        "within": _rounded(np.mean(within)),
        "within, worst slice": _rounded(min(within)),
        "summary": {"mean": _rounded(summaries.mean()), "largest": _rounded(summaries.max())},
        "unsure": _rounded(np.mean([one.unsure for one in judged])),
    }


def _within(expected: Magnitudes, error: Magnitudes, limit: Curve | None) -> float:
    assert limit is not None  # there are expected errors
    return float((error <= limit(expected)).mean())


def _reliability(judged: Sequence[Judged], limit: Curve | None) -> list[dict[str, float]]:
    """By deciles of the expected error: its mean, that of the true error, and the share of those below the limit."""
    expected, error = (np.concatenate([getattr(one, of)[::SPARSE] for one in judged]) for of in ("expected", "error"))
    order: NDArray[np.int_] = np.argsort(expected)
    return [
        {
            "expected": _rounded(expected[part].mean()),
            "true": _rounded(error[part].mean()),
            "within": _rounded(_within(expected[part], error[part], limit)),
        }
        for part in np.array_split(order, BINS)
    ]


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), 5)


def trust_table(figures: Mapping[str, Any]) -> str:
    """What `evaluate_trust` found, for reading."""
    return "\n".join(_lines(figures))


def _lines(figures: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{figures['target']} guided by {figures['reference']}: {figures['n_patients']} patients, part {figures['split']}; errors in "
        "tissue, in % of a slice's maximum"
    )
    yield (
        f"{'':26}{'slices':>7}{'expected':>10}{'true':>8}{'rank, pixels':>14}{'rank, slices':>14}{'within':>9}{'worst':>8}"
        f"{'summary':>9}{'largest':>9}"
    )
    for name, row in figures["rows"].items():
        slices = "" if row["rank, slices"] is None else f"{row['rank, slices']:.2f}"
        yield (
            f"{name:26}{row['n_slices']:7}{100 * row['expected']:10.2f}{100 * row['true']:8.2f}{row['rank, pixels']:14.2f}{slices:>14}"
            f"{row['within']:9.1%}{row['within, worst slice']:8.1%}{row['summary']['mean']:9.3f}{row['summary']['largest']:9.3f}"
        )
    yield ""
    yield "reliability over all acquisitions, by tenths of the pixels"
    for row in figures["reliability"]:
        yield f"expected {100 * row['expected']:6.2f}   true {100 * row['true']:6.2f}   within {row['within']:.1%}"
