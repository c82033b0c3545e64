"""LGG: brains with low-grade glioma from the TCGA-LGG collection, as published by Buda et al. (2019).

A folder holds `manifest.csv` (file, subject, site, slice, has_t1post) and one lossless WebP per slice, whose channels are
T1, T2-FLAIR and T1 post-contrast. Slices are axial, and their first row is the front of the head.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from diffmsr.arrays import Pixels
from diffmsr.data.datasets import Dataset, register_dataset
from diffmsr.data.slices import Cache, DataError, Slice, StoredImages, fitted, read_table
from diffmsr.data.split import Members

CONTRASTS = ("T1", "T2-FLAIR", "T1-POST")
VALIDATION = (
    "TCGA_DU_5853_19950823",
    "TCGA_DU_6401_19831001",
    "TCGA_DU_7018_19911220",
    "TCGA_DU_7304_19930325",
    "TCGA_DU_8167_19970402",
    "TCGA_DU_A5TY_19970709",
    "TCGA_HT_7680_19970202",
    "TCGA_HT_7856_19950831",
    "TCGA_HT_8106_19970727",
)
COLUMNS = ("file", "subject", "site", "slice", "has_t1post")


def read_lgg(root: Path) -> list[Slice]:
    """The slices of the manifest. Raises DataError when it, or the header of an image, is not as above."""
    cache = Cache()
    rows = read_table(root / "manifest.csv", COLUMNS)
    try:
        return [_slice(root, row, cache) for row in rows]
    except (OSError, ValueError) as error:
        raise DataError(f"{root}: not a readable LGG folder: {error}") from None


def _slice(root: Path, row: dict[str, str], cache: Cache) -> Slice:
    path = root / row["file"]
    with Image.open(path) as image:
        if image.mode != "RGB":
            raise ValueError(f"{row['file']} has mode {image.mode}, not three channels")

    def read(contrast: str) -> Pixels:
        pixels: Pixels = cache.get(path, lambda: _pixels(path))[CONTRASTS.index(contrast)]
        return pixels

    present = CONTRASTS if row["has_t1post"] == "1" else CONTRASTS[:2]
    return Slice("lgg", row["subject"], int(row["slice"]), "", StoredImages(present, read), row["site"])


def _pixels(path: Path) -> Pixels:
    """The channels (3, h, w)."""
    try:
        with Image.open(path) as image:
            return fitted(np.moveaxis(np.asarray(image), -1, 0), path)
    except OSError as error:
        raise DataError(f"{path}: not a readable image: {error}") from None


register_dataset(
    Dataset(
        "lgg",
        read_lgg,
        licence="non-commercial, share-alike",
        training_note="TCGA-LGG as published by Buda et al. (non-commercial, share-alike), without site CS and "
        "nine patients to validate on",
        # A whole hospital, 16 subjects and 170 slices, is never trained on.
        # Every eighth of the other subjects, by name from the fourth, is validated on: it decides what is chosen.
        split={"held-out": Members(sites=frozenset({"CS"})), "validation": Members(subjects=frozenset(VALIDATION))},
    )
)
