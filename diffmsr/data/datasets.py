"""Data sets by name. Each registers itself; see `diffmsr/data/lgg.py` for an example."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from diffmsr.data.slices import DataError, Slice
from diffmsr.data.split import Split, apply_split, check_split, read_split

RESEARCH_ONLY = "research use only"
"""The licence of weights trained on data that allow no other use, or whose terms nobody has stated."""


@dataclass(frozen=True)
class Dataset:
    """A data set: where its images come from, on which terms, and how they are read."""

    name: str
    """As `--dataset` and the keys of `data` in a training configuration have it."""
    read: Callable[[Path], list[Slice]]
    """Its slices from a folder. Raises DataError."""
    licence: str
    """Terms of the images."""
    weights_licence: str = RESEARCH_ONLY
    """Licence under which weights trained on it can be given away."""
    training_note: str = ""
    """What a manifest says about weights that were trained on it by its own split."""
    split: Split = field(default_factory=dict)
    """Its own split. Without one, every patient is trained on."""
    without_skull: bool = False
    """Whether the skull was cut away. Metrics then count what is within the cut."""
    quarter_turns: int = 0
    """Anticlockwise quarter turns after which a slice's front is up, as a head is looked at."""


DATASETS: dict[str, Dataset] = {}
"""Every registered data set, by its name."""


def register_dataset(dataset: Dataset) -> None:
    """Make a data set known. Raises ValueError when its name is taken."""
    if dataset.name in DATASETS:
        raise ValueError(f"the data set {dataset.name!r} is registered twice")
    DATASETS[dataset.name] = dataset


def read_slices(name: str, root: Path, split_file: Path | None = None) -> list[Slice]:
    """The slices of a data set, each with its part of the split; the data set's own split without a file.

    Raises DataError when the data set is unknown, or the data or the split cannot be used.
    """
    if name not in DATASETS:
        raise DataError(f"unknown data set {name!r}; known data sets are {', '.join(DATASETS)}")
    split = read_split(split_file) if split_file else DATASETS[name].split
    slices = DATASETS[name].read(root)
    if not slices:
        raise DataError(f"{root}: the data set contains no slices")
    if split_file:  # the data set's own split may name patients that this folder does not hold
        check_split(slices, split, split_file)
    return apply_split(slices, split)
