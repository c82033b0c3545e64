"""The manifest beside `model.safetensors`, which describes a set of weights. Reading it does not import torch."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

WEIGHTS_FILE = "model.safetensors"
MANIFEST_FILE = "manifest.json"


class ManifestError(ValueError):
    """A manifest is missing or wrong."""


@dataclass(frozen=True)
class TrainedPair:
    """Contrasts the weights were trained on, in the node's labels: T1, T2, T2-FLAIR, PD ... with -FS when fat-saturated."""

    target: str
    reference: str


@dataclass(frozen=True)
class Manifest:
    """The fields of the manifest."""

    name: str
    version: str
    preset: str
    sha256: str
    """Of the weights file."""
    scale: int
    input_kind: str
    """`magnitude`: the network takes (magnitude, 0); `complex`: it takes (real, imaginary)."""
    grid_offset: float
    """Distance of the centre of the first output pixel from that of the first input pixel, in input pixels. It is 0 for
    weights trained on truncated k-space."""
    normalisation: str
    """`slice-max`: each slice, target and reference, is divided by its own maximum (`diffmsr/normalisation.py`)."""
    trained_pairs: tuple[TrainedPair, ...]
    training_data: str
    licence: str
    training: dict[str, Any]
    """The stage that the run reached, the slices that it saw, and the minutes that it took."""
    metrics: dict[str, Any]
    """Measured on patients never seen. The model card says how."""
    consistency: str = "none"
    """Which part of the target's measured k-space is put back into a result, see `diffmsr/consistency.py`: `none`, `low` or
    `full`. A manifest written before there was a choice has no such key, and its weights make the images that they made."""

    def write(self, folder: Path) -> None:
        (folder / MANIFEST_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")


def weights_of_package(name: str) -> Path:
    """The folder of weights that come with the package."""
    return Path(__file__).parent / "weights" / name


def default_weights_folder() -> Path:
    """The weights that are used where none are named."""
    return weights_of_package("small")


def baseline_weights_folder() -> Path:
    """The weights of the CNN baseline, which an evaluation shows beside any others."""
    return weights_of_package("cnn")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a weights folder. Raises ManifestError, in one line, when it is missing, damaged or not for this
    version."""
    path = folder / MANIFEST_FILE
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ManifestError(f"{path} is not JSON: {error}") from None
    names = {field.name for field in fields(Manifest)}
    given = set(values) if isinstance(values, dict) else set()
    if names - given - {"consistency"} or given - names:
        missing, unknown = ", ".join(sorted(names - given - {"consistency"})), ", ".join(sorted(given - names))
        raise ManifestError(f"{path}: missing keys: {missing or 'none'}; unknown keys: {unknown or 'none'}")
    try:
        pairs = tuple(TrainedPair(**pair) for pair in values.pop("trained_pairs"))
        manifest = Manifest(trained_pairs=pairs, **values)
    except TypeError as error:
        raise ManifestError(f"{path}: trained_pairs: {error}") from None
    _check(path, manifest)
    return manifest


def _check(path: Path, manifest: Manifest) -> None:
    allowed: dict[str, tuple[object, ...]] = {
        "scale": (4,), "input_kind": ("magnitude", "complex"), "normalisation": ("slice-max",),
        "consistency": ("none", "low", "full"),
    }  # fmt: skip
    for name, values in allowed.items():
        if getattr(manifest, name) not in values:
            raise ManifestError(
                f"{path}: {name} = {getattr(manifest, name)!r}; this version accepts {', '.join(map(repr, values))}"
            )
    if not isinstance(manifest.grid_offset, int | float) or abs(manifest.grid_offset) > 1:
        raise ManifestError(f"{path}: grid_offset must be a number of input pixels between -1 and 1")
    if not manifest.trained_pairs:
        raise ManifestError(f"{path}: trained_pairs is empty; name the contrasts that the weights were trained on")
