"""Training and test images: data sets, their splits, and the degradation that makes low-resolution images.

`slices` is what a reader gives. `lgg`, `open_ms`, `fastmri` and `folder` each hold one data set: licence, orientation,
split and reader, and what it expects on disk. `contrast` knows the spellings of contrasts. `split` divides patients into
parts. `degradation` and `samples` make what a network sees. `bandwidth` finds what a scanner zero-filled.

All modules are imported here, so each data set that registers itself is known.
"""

from diffmsr.data.bandwidth import subject_bandwidth
from diffmsr.data.datasets import DATASETS, RESEARCH_ONLY, Dataset, read_slices, register_dataset
from diffmsr.data.degradation import acquire, as_tensor, degrade, with_phase
from diffmsr.data.samples import Augmentation, acquired, training_sample
from diffmsr.data.slices import SCALE, DataError, Slice, usual_pair
from diffmsr.discovery import import_modules_of

import_modules_of(__name__, __path__)

__all__ = [
    "DATASETS",
    "RESEARCH_ONLY",
    "SCALE",
    "Augmentation",
    "DataError",
    "Dataset",
    "Slice",
    "acquire",
    "acquired",
    "as_tensor",
    "degrade",
    "read_slices",
    "register_dataset",
    "subject_bandwidth",
    "training_sample",
    "usual_pair",
    "with_phase",
]
