"""What becomes of lesions: contrast, volume and detection in truth, in zero-filled and in super-resolved images.

Lesions are the connected components of a mask drawn by people, in three dimensions. Everything is measured within their
slices and in units of the truth's maximum, by a fixed rule that knows nothing of the methods:

- contrast-to-noise: mean of the lesion minus mean of its ring, over the standard deviation of the ring. The ring holds the
  pixels 2 to 5 pixels away from every lesion, within the head;
- volume: pixels of the lesion and up to 2 pixels around it above the middle between the truth's means of lesion and ring,
  over the same count in the truth;
- detection: a pixel is suspicious when it exceeds the weighted mean of its surroundings within the head (a Gaussian of
  `SURROUNDINGS` pixels) by `SUSPICIOUS` times the robust standard deviation of that difference. A lesion is found when one
  of its pixels is suspicious. The outermost pixel of the head counts for nothing: masks cut the head there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, label

from diffmsr.arrays import Magnitudes
from diffmsr.data import DataError, Slice
from diffmsr.evaluate.intervals import percentile_interval
from diffmsr.evaluate.methods import Method, compared, input_kinds
from diffmsr.evaluate.run import reconstructions
from diffmsr.evaluate.selection import select
from diffmsr.progress import followed

TRUTH = "truth"
CLASSES = {"up to 15": (1, 15), "16 to 100": (16, 100), "more than 100": (101, 10**9)}
"""Voxels of a lesion."""
SUSPICIOUS = 4.0
SURROUNDINGS = 5.0
MEASURES = ("cnr", "volume", "found")

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Lesion:
    """A lesion with its measures by method."""

    voxels: int
    measures: Mapping[str, Mapping[str, float]]


def evaluate_lesions(
    dataset: str,
    root: Path,
    weights: Mapping[str, Method],
    target: str | None = None,
    reference: str | None = None,
    split: str | None = None,
    split_file: Path | None = None,
) -> dict[str, Any]:
    """Means over the lesions of each size class, by method, with 95 % bootstrap intervals over lesions, and how many
    suspicious regions per slice touch no lesion. Targets are degraded as `evaluate` degrades them. Raises DataError, as
    `evaluate` does, and when no slice has a mask of lesions."""
    selection = select(dataset, root, target, reference, split, split_file)
    methods = compared(weights)
    lesions: list[Lesion] = []
    false: dict[str, list[int]] = {name: [] for name in (TRUTH, *methods)}
    for pieces in followed(selection.patients.values(), "patients"):
        drawn = [piece for piece in pieces if piece.lesions is not None]
        if drawn:
            of_subject, candidates = _of_patient(drawn, selection.target, selection.reference, weights)
            lesions += of_subject
            for name, counts in candidates.items():
                false[name] += counts
    if not lesions:
        raise DataError(f"{root}: no slice of part {selection.split} has a mask of lesions")
    return {
        "dataset": dataset,
        "split": selection.split,
        "target": selection.target,
        "reference": selection.reference,
        "patients": sorted(selection.patients),
        "methods": [TRUTH, *methods],
        "lesions": len(lesions),
        "classes": {
            name: _class([one for one in lesions if least <= one.voxels <= most])
            for name, (least, most) in CLASSES.items()
        },
        "false_per_slice": {name: round(float(np.mean(counts)), 3) for name, counts in false.items()},
    }


def lesion_table(figures: Mapping[str, Any]) -> str:
    """The figures for reading: a table per size class."""
    lines = [
        f"{figures['target']} guided by {figures['reference']}: {figures['lesions']} lesions of "
        f"{', '.join(figures['patients'])}, part {figures['split']}; 95 % intervals over lesions"
    ]
    wide = max(16, *(len(method) + 2 for method in figures["methods"]))
    for name, row in figures["classes"].items():
        lines += ["", f"{name} voxels: {row['lesions']} lesions"]
        if not row["lesions"]:
            continue
        lines.append(f"{'':{wide}}{'contrast-to-noise':>24}{'volume / truth':>24}{'found':>24}")
        for method in figures["methods"]:
            cells = (f"{m['mean']:.2f} [{m['interval'][0]:.2f}, {m['interval'][1]:.2f}]" for m in row[method].values())
            lines.append(f"{method:{wide}}" + "".join(f"{cell:>24}" for cell in cells))
    false = ", ".join(f"{name} {count:.2f}" for name, count in figures["false_per_slice"].items())
    return "\n".join([*lines, "", f"suspicious regions per slice that touch no lesion: {false}"])


def _class(lesions: Sequence[Lesion]) -> dict[str, Any]:
    row: dict[str, Any] = {"lesions": len(lesions)}
    if lesions:
        for method in lesions[0].measures:
            row[method] = {
                measure: _with_interval([one.measures[method][measure] for one in lesions]) for measure in MEASURES
            }
    return row


def _with_interval(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": round(float(np.mean(values)), 4), "interval": percentile_interval(values)}


def _of_patient(
    pieces: Sequence[Slice], target: str, reference: str, weights: Mapping[str, Method]
) -> tuple[list[Lesion], dict[str, list[int]]]:
    """The lesions of a patient, and for each method the false suspicious regions of each slice."""
    masks = {piece.index: piece.lesions() > 0 for piece in pieces if piece.lesions is not None}
    shown = [piece for piece in pieces if masks[piece.index].any()]
    stacks: dict[str, list[Magnitudes]] = {}
    for example in reconstructions(shown, target, reference, compared(weights), input_kinds(weights)):
        unit = example.truth.max()
        for name, image in {TRUTH: example.truth, **example.images}.items():
            stacks.setdefault(name, []).append(image / unit)
    order = [piece.index for piece in shown]
    # Slices that are not neighbours must not become neighbours: an empty slice stands where some are left out.
    volume = np.zeros((order[-1] - order[0] + 1, *masks[order[0]].shape), bool)
    for index in order:
        volume[index - order[0]] = masks[index]
    numbered, count = label(volume, structure=np.ones((3, 3, 3)))
    numbered = numbered[[index - order[0] for index in order]]
    images = {name: np.stack(stack) for name, stack in stacks.items()}
    head = images[TRUTH] > 0.05
    suspicious = {name: _suspicious(stack, head) for name, stack in images.items()}
    lesions = list(_lesions(numbered, count, images, head, suspicious))
    near = np.stack([binary_dilation(one, iterations=2) for one in numbered > 0])
    false = {
        name: [_regions_apart(*pair) for pair in zip(found, near, strict=True)] for name, found in suspicious.items()
    }
    return lesions, false


def _lesions(
    numbered: NDArray[np.int32],
    count: int,
    images: Mapping[str, Magnitudes],
    head: Mask,
    suspicious: Mapping[str, Mask],
) -> Iterator[Lesion]:
    every = numbered > 0
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = True
    close, far = (binary_dilation(every, in_plane, iterations=n) for n in (1, 5))
    for number in range(1, count + 1):
        lesion = numbered == number
        around = binary_dilation(lesion, in_plane, iterations=5) & far & ~close & head
        if around.sum() < 10:
            continue  # a lesion at the edge of the brain, or among others, has no ring to compare it with
        reach = binary_dilation(lesion, in_plane, iterations=2) & ~(every & ~lesion)
        middle = (images[TRUTH][lesion].mean() + images[TRUTH][around].mean()) / 2
        whole = max(int((images[TRUTH][reach] > middle).sum()), 1)
        yield Lesion(
            int(lesion.sum()),
            {
                name: {
                    "cnr": float((image[lesion].mean() - image[around].mean()) / max(image[around].std(), 1e-6)),
                    "volume": int((image[reach] > middle).sum()) / whole,
                    "found": float(suspicious[name][lesion].any()),
                }
                for name, image in images.items()
            },
        )


def _suspicious(images: Magnitudes, head: Mask) -> Mask:
    found = np.zeros(images.shape, bool)
    for i, (image, within) in enumerate(zip(images, head, strict=True)):
        inner = binary_erosion(within)
        if not inner.any():
            continue
        weight = gaussian_filter(within.astype(np.float32), SURROUNDINGS)
        mean = gaussian_filter(image * within, SURROUNDINGS) / np.maximum(weight, 1e-6)
        above = image - mean
        spread = 1.4826 * np.median(np.abs(above[inner] - np.median(above[inner])))
        found[i] = inner & (above > SUSPICIOUS * max(spread, 1e-6))
    return found


def _regions_apart(found: Mask, near: Mask) -> int:
    """How many connected regions touch no lesion."""
    numbered, count = label(found)
    return int(count) - len(np.unique(numbered[found & near]))
