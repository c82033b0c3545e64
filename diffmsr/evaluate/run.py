"""The measurement: every slice degraded, super-resolved by each method, and compared with the truth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import shift

from diffmsr.arrays import Magnitudes
from diffmsr.data import DataError, Slice, acquire, as_tensor, subject_bandwidth, with_phase
from diffmsr.evaluate.edges import NOTE, is_cut, without_cut
from diffmsr.evaluate.figure import Example, draw
from diffmsr.evaluate.intervals import Scores, interval, mean
from diffmsr.evaluate.methods import BICUBIC, ZERO_FILLED, Method, compared, input_kinds
from diffmsr.evaluate.selection import select
from diffmsr.metrics import VARIANTS, quality
from diffmsr.progress import followed

FULL_BANDWIDTH = 0.65
"""Below this bandwidth, a scanner zero-filled the subject's images: much of their 'truth' is itself interpolated."""
BATCH = 8
"""Slices that go through a network at once."""
EXAMPLES = 3
"""Slices of a figure."""


@dataclass(frozen=True)
class Conditions:
    """How quality is measured."""

    metric: str = "float"
    """Variant of the metrics: float or published, see `metrics.quality`."""
    reference_shift: float = 0.0
    """Robustness: the reference is moved along its rows by so many high-resolution pixels."""
    without_reference: bool = False
    """Robustness: the reference is zero."""
    foreign_reference: bool = False
    """Robustness: the reference is the next patient's."""


def evaluate(
    dataset: str,
    root: Path,
    weights: Mapping[str, Method],
    target: str | None = None,
    reference: str | None = None,
    split: str | None = None,
    split_file: Path | None = None,
    conditions: Conditions = Conditions(),
    figure_file: Path | None = None,
) -> dict[str, Any]:
    """Quality of weights, by name, over the slices of the part `split` and by patient; the first of them beside the
    others, zero-filling and bicubic interpolation.

    Contrasts default to the usual pair, the part to `held-out`, or `all` where no patient is held out. Each slice is
    degraded with a smooth phase seeded by its index and no added noise; the networks' noise has the same seed. The frame
    is whole. The means, over slices, leave out patients whose images the scanner zero-filled; `all_patients` are the
    means with them. Intervals are 95 % bootstrap intervals over patients; over slices where there is one patient. A few
    slices are drawn into `figure_file`. Where every patient was zero-filled all are quoted, and `notes` says so. Raises
    DataError when nothing fits.
    """
    if conditions.metric not in VARIANTS:
        raise DataError(f"unknown metric {conditions.metric!r}; known metrics are {', '.join(VARIANTS)}")
    if figure_file and not figure_file.parent.is_dir():
        raise DataError(f"cannot write the figure {figure_file}: its folder does not exist")
    selection = select(dataset, root, target, reference, split, split_file)
    patients, target, reference, split = selection.patients, selection.target, selection.reference, selection.split
    notes = [*selection.notes, *([NOTE] if is_cut(dataset) else [])]
    if conditions.foreign_reference and len(patients) == 1:
        raise DataError(f"{root}: part {split} is one patient, so there is no other patient's reference")

    methods, kinds, first = compared(weights), input_kinds(weights), next(iter(weights))
    wanted = _example_slices(patients)
    scores: dict[str, list[Scores]] = {}
    rows: list[dict[str, Any]] = []
    examples: list[Example] = []
    for subject, pieces in followed(patients.items(), "patients"):
        guides = _references(patients, subject, reference, conditions)
        scores[subject] = []
        for example in _guided(pieces, guides, target, methods, kinds):
            of = {
                name: quality(without_cut(image, example.truth, dataset), example.truth, conditions.metric)
                for name, image in example.images.items()
            }
            scores[subject].append(of)
            if (subject, example.index) in wanted:
                examples.append(replace(example, scores=of))
        rows.append(_patient_row(subject, pieces, subject_bandwidth(pieces, target), mean(scores[subject]), first))
    quoted = [scores[row["patient"]] for row in rows if row["quoted"]]
    if not quoted:
        quoted = list(scores.values())
        notes.append("the scanner zero-filled the images of every patient: much of the truth is itself interpolated")
    flat, everything = ([one for of in group for one in of] for group in (quoted, scores.values()))
    if figure_file:
        draw([_in_columns(example, first) for example in examples], target, reference, figure_file)
    return {
        "dataset": dataset,
        "split": split,
        "target": target,
        "reference": reference,
        **asdict(conditions),
        "definitions": VARIANTS[conditions.metric],
        "notes": notes,
        "methods": list(methods),
        "n_slices": len(flat),
        "n_patients": len(quoted),
        **_rounded(mean(flat), first),
        "intervals": interval(quoted, first),
        "all_patients": {"n_slices": len(everything), **_rounded(mean(everything), first)},
        "without_pair": list(selection.without_pair),
        "patients": rows,
    }


def _patient_row(subject: str, pieces: Sequence[Slice], bandwidth: float, means: Scores, first: str) -> dict[str, Any]:
    return {
        "patient": subject,
        **({"site": pieces[0].site} if pieces[0].site else {}),
        "n_slices": len(pieces),
        "bandwidth": round(bandwidth, 3),
        "quoted": bandwidth >= FULL_BANDWIDTH,
        **_rounded(means, first),
    }


def _in_columns(example: Example, first: str) -> Example:
    """With the images in the order of a figure's columns: what knows less, other weights, the first weights."""
    order = [
        ZERO_FILLED,
        BICUBIC,
        *(name for name in example.images if name not in (ZERO_FILLED, BICUBIC, first)),
        first,
    ]
    return replace(example, images={name: example.images[name] for name in order})


def _example_slices(patients: Mapping[str, Sequence[Slice]]) -> set[tuple[str, int]]:
    """The middle slices of a few patients; of one patient, a few slices."""
    if len(patients) == 1:
        ((subject, pieces),) = patients.items()
        return {(subject, pieces[len(pieces) * (2 * i + 1) // (2 * EXAMPLES)].index) for i in range(EXAMPLES)}
    subjects = list(patients)
    chosen = {subjects[len(subjects) * (2 * i + 1) // (2 * EXAMPLES)] for i in range(EXAMPLES)}
    return {(subject, patients[subject][len(patients[subject]) // 2].index) for subject in chosen}


def _references(
    patients: Mapping[str, Sequence[Slice]], subject: str, contrast: str, conditions: Conditions
) -> Callable[[int], Magnitudes]:
    """The guide of a patient's i-th slice, as the conditions change it."""
    source, pieces = patients[subject], patients[subject]
    if conditions.foreign_reference:
        subjects = list(patients)
        source = patients[subjects[(subjects.index(subject) + 1) % len(subjects)]]

    def guide(i: int) -> Magnitudes:
        pixels = source[i * len(source) // len(pieces)].images[contrast]
        image: Magnitudes = as_tensor(pixels).abs().numpy()
        if conditions.reference_shift:
            image = shift(image, (0, conditions.reference_shift), order=3, mode="nearest").clip(0)
        return np.zeros_like(image) if conditions.without_reference else image

    return guide


def reconstructions(
    pieces: Sequence[Slice], target: str, reference: str, methods: Mapping[str, Method], kinds: Mapping[str, str]
) -> Iterator[Example]:
    """The slices of a patient, degraded and given back by each method, in order."""
    guides = _references({pieces[0].subject: pieces}, pieces[0].subject, reference, Conditions())
    return _guided(pieces, guides, target, methods, kinds)


def _guided(
    pieces: Sequence[Slice],
    guides: Callable[[int], Magnitudes],
    target: str,
    methods: Mapping[str, Method],
    kinds: Mapping[str, str],
) -> Iterator[Example]:
    """Every slice with the images that the methods give, in batches of one shape."""
    shape: Callable[[int], tuple[int, ...]] = lambda i: pieces[i].images[target].shape  # noqa: E731
    for _, group in groupby(range(len(pieces)), key=shape):
        numbers = list(group)
        for start in range(0, len(numbers), BATCH):
            yield from _batch(numbers[start : start + BATCH], pieces, guides, target, methods, kinds)


def _batch(
    numbers: Sequence[int],
    pieces: Sequence[Slice],
    guides: Callable[[int], Magnitudes],
    target: str,
    methods: Mapping[str, Method],
    kinds: Mapping[str, str],
) -> Iterator[Example]:
    truths = [as_tensor(pieces[i].images[target]) for i in numbers]
    seeds = [pieces[i].index for i in numbers]
    for truth, seed in zip(truths, seeds, strict=True):
        if not truth.any():
            raise DataError(f"{pieces[0].subject}, slice {seed}: {target} is empty")
    acquired = []
    for truth, seed in zip(truths, seeds, strict=True):
        rng = np.random.default_rng(seed)
        acquired.append(acquire(with_phase(truth, rng), rng))
    low = {"complex": torch.stack(acquired).numpy(), "magnitude": torch.stack(acquired).abs().numpy()}
    guide = [guides(i) for i in numbers]
    if {image.shape for image in guide} != {tuple(truths[0].shape)}:
        raise DataError(f"{pieces[0].subject}: the reference does not have the target's shape")
    try:
        made = {name: np.abs(method(low[kinds[name]], np.stack(guide), seeds)) for name, method in methods.items()}
    except ValueError as error:  # a size that a network cannot take
        raise DataError(f"{pieces[0].subject}: {error}") from None
    for k, i in enumerate(numbers):
        images = {name: batch[k] for name, batch in made.items()}
        yield Example(pieces[i].dataset, pieces[i].subject, seeds[k], truths[k].abs().numpy(), guide[k], images, {})


def _rounded(means: Scores, first: str) -> dict[str, Any]:
    """The figures of the first weights, and beside them the other methods' rows."""
    rows: dict[str, Any] = {
        method: {metric: round(value, 4) for metric, value in row.items()} for method, row in means.items()
    }
    return {**rows.pop(first), **rows}
