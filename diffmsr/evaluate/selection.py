"""Which slices are measured: the part of a split, and the contrasts that stand for target and reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from diffmsr.data import DataError, Slice, read_slices, usual_pair
from diffmsr.data.contrast import find_contrast


@dataclass(frozen=True)
class Selection:
    """The slices of each patient, in order, with their contrasts."""

    patients: Mapping[str, list[Slice]]
    split: str
    target: str
    reference: str
    without_pair: Sequence[str]
    """Patients of the part who lack one of the contrasts."""
    notes: Sequence[str]


def select(
    dataset: str,
    root: Path,
    target: str | None = None,
    reference: str | None = None,
    split: str | None = None,
    split_file: Path | None = None,
) -> Selection:
    """Contrasts default to the usual pair, the part to `held-out`, or `all` where no patient is held out. Raises DataError
    when nothing fits."""
    notes: list[str] = []
    slices = read_slices(dataset, root, split_file)
    if split is None:
        split = "held-out" if any(piece.held_out for piece in slices) else "all"
        if split == "all":
            notes.append(
                "the split holds out no patient of this folder: the weights may have been trained on these patients"
            )
    slices = [piece for piece in slices if split in ("all", piece.part)]
    if not slices:
        raise DataError(f"{root}: no patient belongs to part {split}")
    known = sorted({contrast for piece in slices for contrast in piece.images})
    usual = usual_pair(slices[0].images)
    target = find_contrast(target, known) if target else usual[0]
    reference = find_contrast(reference, known) if reference else usual[1]
    if target == reference:
        raise DataError(f"target and reference are both {target}; name another one with --target and --reference")
    patients = _by_patient([piece for piece in slices if {target, reference} <= piece.images.keys()])
    if not patients:
        raise DataError(
            f"{root}: no {split} slices have {target} and {reference}; the contrasts are {', '.join(known)}"
        )
    without_pair = sorted({piece.subject for piece in slices} - set(patients))
    return Selection(patients, split, target, reference, without_pair, notes)


def _by_patient(slices: Sequence[Slice]) -> dict[str, list[Slice]]:
    ordered = sorted(slices, key=lambda piece: piece.subject)
    return {subject: list(pieces) for subject, pieces in groupby(ordered, key=lambda piece: piece.subject)}
