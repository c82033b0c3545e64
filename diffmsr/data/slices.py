"""Slices, whose images are read only when they are needed."""

import csv
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffmsr.arrays import Pixels

SCALE = 4
CACHE_BYTES = 2 << 30
"""Limit of the images kept in memory per data set. A larger training set of compressed volumes is read repeatedly."""

USUAL_PAIRS = (("T2", "T1"), ("T2-FLAIR", "T1"), ("PD-FS", "PD"))
"""Target and reference as super-resolution is used in practice."""


class DataError(ValueError):
    """A data set is missing or unknown, or a file of it is wrong."""


@dataclass(frozen=True)
class Slice:
    """Images (h, w) of one anatomical slice, by contrast, on one grid whose height and width are multiples of 4."""

    dataset: str
    subject: str
    """The patient. No split may divide a patient's slices."""
    index: int
    """Number within the subject's volume. It seeds whatever is random in an evaluation."""
    part: str
    """Part of the split: `train`, `held-out`, or another name from a split file. Empty before the data set is split."""
    images: Mapping[str, Pixels]
    site: str = ""
    lesions: Callable[[], Pixels] | None = None
    """Reads the mask (h, w) of lesions that people drew, more than 0 within; None where there is none."""

    @property
    def held_out(self) -> bool:
        """Whether it is never trained on."""
        return self.part == "held-out"


def usual_pair(contrasts: Collection[str]) -> tuple[str, str]:
    """Target and reference among these contrasts: a usual pair, else the first two by name."""
    first, second, *_ = sorted(contrasts)
    return next((pair for pair in USUAL_PAIRS if set(pair) <= set(contrasts)), (first, second))


def add_contrast(files: dict[str, Path], contrast: str, path: Path) -> None:
    """Add a subject's file of a contrast. Raises DataError when there is one already."""
    if contrast in files:
        raise DataError(f"{path.parent}: {files[contrast].name} and {path.name} are both {contrast}")
    files[contrast] = path


class StoredImages(Mapping[str, Pixels]):
    """The images of a slice, by contrast. `read` reads each one when it is needed."""

    def __init__(self, contrasts: tuple[str, ...], read: Callable[[str], Pixels]) -> None:
        self._contrasts, self._read = contrasts, read

    def __getitem__(self, contrast: str) -> Pixels:
        if contrast not in self._contrasts:
            raise KeyError(contrast)
        return self._read(contrast)

    def __iter__(self) -> Iterator[str]:
        return iter(self._contrasts)

    def __len__(self) -> int:
        return len(self._contrasts)


class Cache:
    """Arrays by key. Beyond `limit` bytes it drops the least recently used ones. Threads may share it."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit, self._held = limit, 0
        self._arrays: OrderedDict[Hashable, Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], Pixels]) -> Pixels:
        """The array of this key; `read` makes it when the cache does not hold it."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        array = read()
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = array
                self._held += array.nbytes
            while self._held > self._limit:
                self._held -= self._arrays.popitem(last=False)[1].nbytes
        return array


def fitted(pixels: Pixels, what: object) -> Pixels:
    """Images (..., h, w) cropped at the end to a height and width that are multiples of 4. Raises DataError, which names
    `what`, when nothing is left."""
    h, w = (size // SCALE * SCALE for size in pixels.shape[-2:])
    if not h or not w:
        raise DataError(f"{what}: images of {pixels.shape[-2]} x {pixels.shape[-1]} pixels are too small")
    return np.ascontiguousarray(pixels[..., :h, :w])


def read_table(path: Path, columns: Collection[str]) -> list[dict[str, str]]:
    """The rows of a CSV file, by column name. Raises DataError when one of these columns is missing."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable table: {error}") from None
    for number, row in enumerate(rows, start=2):
        missing = [column for column in columns if not row.get(column)]
        if missing:
            raise DataError(f"{path}, line {number}: missing {', '.join(missing)}")
    return rows


def finite(pixels: Pixels, what: object) -> Pixels:
    """The pixels. Raises DataError, which names `what`, when some are NaN or infinite."""
    if not np.isfinite(pixels).all():
        raise DataError(f"{what}: holds values that are not finite")
    return pixels


def in_head(volume: Pixels) -> list[int]:
    """The slices of a volume (n, h, w) that show more than air: their maximum exceeds a tenth of the volume's."""
    peaks = np.abs(volume).max(axis=(1, 2))
    return [int(i) for i in np.flatnonzero(peaks > 0.1 * peaks.max())]
