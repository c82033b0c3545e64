"""Training and test images: readers of data sets, their splits, and the degradation that makes low-resolution images.

`slices` is what a reader gives; `lgg`, `open_ms`, `fastmri` and `folder` say what they expect on disk; `split` says who is
trained on; `degradation` and `samples` make of slices what a network sees; `bandwidth` finds what scanners zero-filled.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from diffmsr.data.bandwidth import subject_bandwidth
from diffmsr.data.degradation import acquire, as_tensor, degrade, with_phase
from diffmsr.data.fastmri import read_fastmri
from diffmsr.data.folder import read_folder
from diffmsr.data.lgg import read_lgg
from diffmsr.data.open_ms import read_open_ms
from diffmsr.data.samples import Augmentation, training_sample
from diffmsr.data.slices import SCALE, DataError, Slice, usual_pair
from diffmsr.data.split import apply_split, check_split, default_split, read_split

READERS: Mapping[str, Callable[[Path], list[Slice]]] = {
    "lgg": read_lgg, "open_ms": read_open_ms, "fastmri": read_fastmri, "folder": read_folder,
}  # fmt: skip

__all__ = [
    "READERS",
    "SCALE",
    "Augmentation",
    "DataError",
    "Slice",
    "acquire",
    "as_tensor",
    "degrade",
    "read_slices",
    "subject_bandwidth",
    "training_sample",
    "usual_pair",
    "with_phase",
]


def read_slices(dataset: str, root: Path, split_file: Path | None = None) -> list[Slice]:
    """The slices of a data set, each with its part of the split; the data set's own split without a file.

    Raises DataError when the data or the split cannot be used.
    """
    split = read_split(split_file) if split_file else default_split(dataset)
    slices = READERS[dataset](root)
    if not slices:
        raise DataError(f"{root}: holds no slice")
    if split_file:  # of the data set's own split, a folder may hold some patients only
        check_split(slices, split, split_file)
    return apply_split(slices, split)
