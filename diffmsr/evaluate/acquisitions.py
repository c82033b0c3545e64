"""Quality on targets as scanners really store them: named acquisitions, each against its own stored image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from diffmsr.acquisition import NAMED, Acquisition, Estimate, Undoing, estimate, header_of, simulate
from diffmsr.arrays import Magnitudes, Pixels
from diffmsr.baselines import zero_filled
from diffmsr.data import SCALE, DataError, Slice, as_tensor, subject_bandwidth, with_phase
from diffmsr.evaluate.edges import without_cut
from diffmsr.evaluate.intervals import interval
from diffmsr.evaluate.run import FULL_BANDWIDTH
from diffmsr.evaluate.selection import select
from diffmsr.metrics import psnr
from diffmsr.progress import followed

STORED = "stored"
"""The image as the scanner stored it, zero-filled: what every gain is over."""
NO_UNDOING = Undoing(crop=False, filter=False, partial_fourier=False)


class Restorer(Protocol):
    """A method that undoes an acquisition and enlarges, as a SuperResolver does."""

    def __call__(
        self,
        target: Pixels,
        reference: Pixels,
        seeds: Sequence[int],
        acquisition: Acquisition = ...,
        undoing: Undoing = ...,
    ) -> Pixels: ...


@dataclass(frozen=True)
class Trial:
    """An acquisition to measure: what the scanner did, and what its header tells."""

    name: str
    true: Acquisition
    header: Acquisition


def trials(names: Sequence[str]) -> list[Trial]:
    """The named acquisitions; all of them for no name. Raises DataError for an unknown name."""
    unknown = sorted(set(names) - set(NAMED))
    if unknown:
        raise DataError(f"unknown acquisitions {', '.join(unknown)}; known acquisitions are {', '.join(NAMED)}")
    return [Trial(name, NAMED[name], header_of(name)) for name in names or NAMED]


def evaluate_acquisitions(
    dataset: str,
    root: Path,
    weights: Mapping[str, Restorer],
    names: Sequence[str] = (),
    target: str | None = None,
    reference: str | None = None,
    split: str | None = None,
    split_file: Path | None = None,
    undoing: Undoing | None = None,
    oracle: bool = False,
    every: int = 1,
) -> dict[str, Any]:
    """Gain in PSNR (dB) of weights, by name, over the image as the scanner stored it, for each named acquisition.

    A patient's slices are simulated as one stack, its acquisition is estimated from the stack and the header, and every
    slice is super-resolved with that estimate; `oracle` gives the true acquisition instead. `without undoing` is the first
    weights with nothing undone and nothing told. Every `every`-th slice is super-resolved; the estimate sees all.
    Patients whose images were zero-filled by the scanner are left out, unless all were. Intervals are 95 % bootstrap
    intervals over patients; over slices where there is one patient. Raises DataError when nothing fits.
    """
    selection = select(dataset, root, target, reference, split, split_file)
    target, reference, patients = selection.target, selection.reference, selection.patients
    full = {s: p for s, p in patients.items() if subject_bandwidth(p, target) >= FULL_BANDWIDTH} or patients
    rows = [
        _measured(trial, full, target, reference, weights, undoing or Undoing(), oracle, every)
        for trial in trials(names)
    ]
    return {
        "dataset": dataset,
        "split": selection.split,
        "target": target,
        "reference": reference,
        "n_patients": len(full),
        "undoing": "none" if undoing == NO_UNDOING else str(undoing or Undoing()),
        "acquisitions": {row.pop("name"): row for row in rows},
    }


def _measured(
    trial: Trial,
    patients: Mapping[str, Sequence[Slice]],
    target: str,
    reference: str,
    weights: Mapping[str, Restorer],
    undoing: Undoing,
    oracle: bool,
    every: int,
) -> dict[str, Any]:
    scores: list[list[dict[str, dict[str, float]]]] = []
    found: dict[str, Any] = {}
    for subject, pieces in followed(patients.items(), f"patients, {trial.name}"):
        estimates: list[Estimate] = []
        of_patient = []
        for stack in stacks(pieces, target):
            stored = simulated_stack(stack, target, trial.true)
            if not oracle:
                estimates.append(estimate(stored, trial.header))
            acquisition = trial.true if oracle else estimates[-1].acquisition
            for i in range(0, len(stack), every):
                of_patient.append(
                    _scores(stack[i], stored[i : i + 1], target, reference, weights, acquisition, undoing)
                )
        scores.append(of_patient)
        found[subject] = [{"acquisition": e.acquisition.to_json(), "warnings": list(e.warnings)} for e in estimates]
    first = next(iter(weights))
    flat = [s for group in scores for s in group]
    bounds = interval([[{first: s[first], STORED: s[STORED]} for s in group] for group in scores], first)
    gains = {
        name: interval([[{name: s[name], STORED: s[STORED]} for s in group] for group in scores], name)["gains"][
            STORED
        ]["psnr"]
        for name in flat[0]
        if name != STORED
    }
    for name, gain in gains.items():
        gain["worst slice"] = round(min(s[name]["psnr"] - s[STORED]["psnr"] for s in flat), 4)
    return {
        "name": trial.name,
        "n_slices": len(flat),
        "over": bounds["over"],
        STORED: round(float(np.mean([s[STORED]["psnr"] for s in flat])), 4),
        "gains": gains,
        "estimates": found,
    }


def stacks(pieces: Sequence[Slice], target: str) -> list[list[Slice]]:
    """A patient's slices by the shape of their images: the studies of a patient may differ in it."""
    by_shape: dict[tuple[int, ...], list[Slice]] = {}
    for piece in pieces:
        by_shape.setdefault(piece.images[target].shape, []).append(piece)
    return list(by_shape.values())


def simulated_stack(stack: Sequence[Slice], target: str, acquisition: Acquisition) -> Magnitudes:
    """What the scanner stores of every slice (n, h, w); a slice's index seeds its phase and noise."""
    images = []
    for piece in stack:
        truth = as_tensor(piece.images[target])
        rng = np.random.default_rng(piece.index)
        rows, columns = truth.shape
        images.append(simulate(with_phase(truth, rng), acquisition, rng, (rows // SCALE, columns // SCALE)))
    stored: Magnitudes = torch.stack(images).numpy()
    return stored


def _scores(
    piece: Slice,
    stored: Magnitudes,
    target: str,
    reference: str,
    weights: Mapping[str, Restorer],
    acquisition: Acquisition,
    undoing: Undoing,
) -> dict[str, dict[str, float]]:
    """PSNR of a slice as stored, by each weights, and by the first weights without undoing."""
    truth = as_tensor(piece.images[target]).abs().numpy()
    guide = as_tensor(piece.images[reference]).abs().numpy()[None]
    seeds = [piece.index]
    images = {STORED: zero_filled(stored, SCALE)}
    try:
        images |= {name: network(stored, guide, seeds, acquisition, undoing) for name, network in weights.items()}
        first = next(iter(weights.values()))
        images["without undoing"] = first(stored, guide, seeds)
    except ValueError as error:  # a size that a network cannot take
        raise DataError(f"{piece.subject}: {error}") from None
    largest = float(truth.max())
    return {
        name: {"psnr": psnr(without_cut(image[0], truth, piece.dataset), truth, largest)}
        for name, image in images.items()
    }


def acquisition_table(figures: Mapping[str, Any]) -> str:
    """The gains that `evaluate_acquisitions` found, for reading."""
    rows = figures["acquisitions"]
    methods = list(next(iter(rows.values()))["gains"])
    over = next(iter(rows.values()))["over"]
    lines = [
        f"{figures['target']} guided by {figures['reference']}: {figures['n_patients']} patients, part {figures['split']}; "
        f"gain in dB over the image as stored, with 95 % intervals over {over}",
        f"{'acquisition':24}{'stored':>8}  " + "".join(f"{name:>28}" for name in methods) + f"{'worst slice':>13}",
    ]
    for name, row in rows.items():
        cells = [
            f"{gain['mean']:+.2f} [{gain['interval'][0]:+.2f}, {gain['interval'][1]:+.2f}]"
            for gain in row["gains"].values()
        ]
        worst = row["gains"][methods[0]]["worst slice"]
        lines.append(f"{name:24}{row[STORED]:8.2f}  " + "".join(f"{cell:>28}" for cell in cells) + f"{worst:+13.2f}")
    return "\n".join(lines)
