"""How the target was acquired, from its headers and its spectrum, and what of it is undone before the network sees it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from node.config.settings import AcquisitionSettings
from node.dicom.acquisition import AcquisitionHeader
from node.errors import RefusedError
from node.infer.volume import Volume
from node.result import Acquired, AcquisitionFact

if TYPE_CHECKING:
    from diffmsr.acquisition import Acquisition, Estimate, Undoing

SMALLEST = 16
"""Acquired rows or columns below which neither the network nor the estimate sees anatomy."""
DISAGREES = {"hamming": 0.04, "tukey": 0.1, "fermi": 0.1}
"""Inconsistency with the target as it was undone, median over its slices, above which a filter that only the spectrum showed
counts as a mistake. Over ten heads, with and without noise, existing filters gave at most 0.033 (Hamming) and 0.062 (Fermi,
Tukey). Filters that did not exist gave 0.033 to 0.61 (Hamming) and at least 0.25 (Fermi, Tukey), and lost 1 to 14 dB."""
AXES = ("rows", "columns")
FILTER = "filter over k-space"


@dataclass(frozen=True)
class Understanding:
    """The acquisition of a target, as the super-resolver gets it."""

    acquisition: "Acquisition"
    undoing: "Undoing"
    acquired: Acquired
    """The same in words for people."""
    warnings: tuple[str, ...]

    def is_contradicted(self, inconsistency: Sequence[float]) -> bool:
        """Whether a filter was divided out that only the spectrum shows, and the slices of the result deny it."""
        (fact,) = (fact for fact in self.acquired.facts if fact.name == FILTER)
        applied = self.acquisition.filter
        if fact.source != "spectrum" or not self.undoing.filter or applied is None or applied.kind == "none":
            return False
        return float(np.median(inconsistency)) > DISAGREES[applied.kind]

    @property
    def parameter(self) -> str:
        """All of it that is known, for the parameters of a result: it changes pixels."""
        return "; ".join(f"{fact.name} {fact.value}" for fact in self.acquired.facts if fact.source != "unknown")


def understand(target: Volume, settings: AcquisitionSettings) -> Understanding:
    """Find out how a target was acquired, from its headers and from the mean spectrum of its slices.

    Raises RefusedError when fewer than `SMALLEST` rows or columns were acquired.
    """
    # Imported here, since torch takes seconds and only the infer worker needs it.
    from diffmsr.acquisition import Estimate, Undoing, cropped_matrix, estimate

    stored = (target.pixels.shape[1], target.pixels.shape[2])
    _check_size(stored, "the images have")
    said = (
        as_acquisition(target.acquisition, stored) if settings.header else as_acquisition(AcquisitionHeader(), stored)
    )
    found = estimate(target.pixels, said) if settings.spectrum else Estimate(said)
    acquisition = found.acquisition
    if acquisition.noise is not None:
        # Rounded, because the last digits differ from machine to machine, and the network may be told of the noise.
        acquisition = replace(acquisition, noise=float(f"{acquisition.noise:.3g}"))
    undoing = Undoing(
        crop=settings.crop,
        filter=settings.filter,
        # Doubling what homodyne reconstruction has filled in would make it worse, and only the spectrum shows whether it did.
        partial_fourier=settings.partial_fourier and acquisition.homodyne is False,
    )
    _check_size(cropped_matrix(acquisition, *stored, undoing), "the scanner acquired")
    acquired = Acquired(_facts(acquisition, found, stored), _undone(acquisition, undoing, stored))
    return Understanding(acquisition, undoing, acquired, tuple(f"W_ACQUISITION: {text}" for text in found.warnings))


def without_filter(target: Volume, found: Understanding) -> Understanding:
    """The same without the filter that the spectrum showed, with a warning."""
    acquisition, undoing = replace(found.acquisition, filter=None), replace(found.undoing, filter=False)
    facts = [
        replace(fact, value="unknown", source="unknown") if fact.name == FILTER else fact
        for fact in found.acquired.facts
    ]
    stored = (target.pixels.shape[1], target.pixels.shape[2])
    (seen,) = (fact.value for fact in found.acquired.facts if fact.name == FILTER)
    warning = (
        f"W_ACQUISITION: the images seem to show a filter over k-space ({seen}), but with it divided out the result "
        "contradicts them; it was not divided out"
    )
    acquired = Acquired(facts, _undone(acquisition, undoing, stored))
    return Understanding(acquisition, undoing, acquired, (*found.warnings, warning))


def undone(target: Volume, understanding: Understanding) -> Volume:
    """The target as the network sees it: the same field of view and first pixel, fewer and larger pixels where the scanner
    had enlarged it. With it a result is compared."""
    import torch

    from diffmsr.acquisition import undo

    # Slice by slice: the k-space of a whole stack would take four times its memory.
    slices = [
        undo(torch.from_numpy(s), understanding.acquisition, understanding.undoing).numpy() for s in target.pixels
    ]
    pixels = np.stack(slices).astype(np.float32, copy=False)
    (rows, columns), (h, w) = target.pixels.shape[1:], pixels.shape[1:]
    between_rows, between_columns = target.spacing
    return replace(target, pixels=pixels, spacing=(between_rows * rows / h, between_columns * columns / w))


def as_acquisition(header: AcquisitionHeader, stored: tuple[int, int]) -> "Acquisition":
    """What headers say, in the terms of the acquisition model. Of a filter the model needs the shape, which the header
    names only for some."""
    from diffmsr.acquisition import Acquisition, Filter

    shapes = {"none": Filter(), "hamming": Filter("hamming", 0.92), "hanning": Filter("hamming", 1.0)}
    rows, columns = (None if n is None else n / of for n, of in zip(header.matrix, stored, strict=True))
    return Acquisition(
        extent=(rows, columns),
        partial_fourier=header.partial_fourier,
        filter=None if header.filter is None else shapes.get(header.filter),
        ellipse=header.ellipse,
    )


def _check_size(matrix: tuple[int, int], how: str) -> None:
    rows, columns = matrix
    if min(rows, columns) < SMALLEST:
        raise RefusedError(
            "E_MATRIX_TOO_SMALL",
            f"{how} {rows} x {columns} pixels; the model needs {SMALLEST} x {SMALLEST} to see the anatomy",
        )


def _facts(acquisition: "Acquisition", found: "Estimate", stored: tuple[int, int]) -> list[AcquisitionFact]:
    values = {}
    for axis, share, of in zip(AXES, acquisition.extent, stored, strict=True):
        values[f"extent {axis}"] = None if share is None else f"{min(of, max(2, round(share * of)))} of {of}"
    for axis, share in zip(AXES, acquisition.partial_fourier, strict=True):
        values[f"partial Fourier {axis}"] = None if share is None else _partial_fourier(share, acquisition)
    values["filter"] = _filter(acquisition)
    values["ellipse"] = None if acquisition.ellipse is None else "yes" if acquisition.ellipse else "no"
    values["noise"] = _noise(acquisition)
    return [
        AcquisitionFact(
            name,
            value or "unknown",
            "unknown" if value is None else found.source.get(key, "header"),
            round(found.confidence[key], 3) if key in found.confidence else None,
        )
        for (key, value), name in zip(values.items(), _NAMES, strict=True)
    ]


_NAMES = (
    "acquired rows", "acquired columns", "partial Fourier along rows", "partial Fourier along columns",
    FILTER, "elliptical shutter", "noise",
)  # fmt: skip


def _partial_fourier(share: float, acquisition: "Acquisition") -> str:
    if share == 1:
        return "none"
    how = {True: ", filled in by symmetry", False: ", filled with zeros", None: ""}[acquisition.homodyne]
    return f"{share:.3g} sampled{how}"


def _filter(acquisition: "Acquisition") -> str | None:
    applied = acquisition.filter
    if applied is None:
        return None
    if applied.kind == "none":
        return "none"
    along = {"radial": "radial", "both": "along both axes"}.get(applied.along, f"along {applied.along}")
    return f"{applied.kind} {applied.strength:.3g}, {along}"


def _noise(acquisition: "Acquisition") -> str | None:
    if acquisition.noise is None:
        return None
    coils = acquisition.coils or 1
    return f"{100 * acquisition.noise:.3g} % of the maximum, {coils} coil{'s' if coils > 1 else ''}"


def _undone(acquisition: "Acquisition", undoing: "Undoing", stored: tuple[int, int]) -> list[str]:
    from diffmsr.acquisition import cropped_matrix

    steps = []
    rows, columns = cropped_matrix(acquisition, *stored, undoing)
    if (rows, columns) != stored:
        steps.append(f"k-space cropped to {rows} x {columns}")
    applied = acquisition.filter
    if undoing.filter and applied is not None and applied.kind != "none":
        steps.append(f"{applied.kind} filter divided out")
    if undoing.partial_fourier:
        steps += [
            f"one-sided frequencies along {axis} doubled"
            for axis, share in zip(AXES, acquisition.partial_fourier, strict=True)
            if share is not None and share < 1
        ]
    return steps
