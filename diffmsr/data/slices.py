"""What every reader gives: slices whose images are read when they are asked for."""

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
"""What is kept in memory of a data set. A training set of compressed volumes that is larger is read again and again."""

USUAL_PAIRS = (("T2", "T1"), ("T2-FLAIR", "T1"), ("PD-FS", "PD"))
"""Target and reference as super-resolution is asked for in practice."""


class DataError(ValueError):
    """A data set is missing, or a file of it is not what it should be."""


@dataclass(frozen=True)
class Slice:
    """Images (h, w) of one anatomical slice, by contrast, all on one grid whose sides divide by 4."""

    dataset: str
    subject: str
    """The patient, whom no split may divide."""
    index: int
    """Within the subject's volume; seeds what is random in an evaluation."""
    part: str
    """Of the split: `train`, `held-out`, or another name that a split file uses; empty before it is split."""
    images: Mapping[str, Pixels]
    site: str = ""

    @property
    def held_out(self) -> bool:
        """Never trained on."""
        return self.part == "held-out"


def usual_pair(contrasts: Collection[str]) -> tuple[str, str]:
    """Target and reference of these contrasts: a usual pair, else the first two by name."""
    first, second, *_ = sorted(contrasts)
    return next((pair for pair in USUAL_PAIRS if set(pair) <= set(contrasts)), (first, second))


def add_contrast(files: dict[str, Path], contrast: str, path: Path) -> None:
    """Add a subject's file of a contrast. Raises DataError when there is one already."""
    if contrast in files:
        raise DataError(f"{path.parent}: {files[contrast].name} and {path.name} are both {contrast}")
    files[contrast] = path


class StoredImages(Mapping[str, Pixels]):
    """The images of a slice, by contrast, each read by `read` when it is asked for."""

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
    """Arrays by key; the ones used longest ago are forgotten beyond `limit` bytes. Threads may share it."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit, self._held = limit, 0
        self._arrays: OrderedDict[Hashable, Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], Pixels]) -> Pixels:
        """The array of this key, from `read` when it is not held."""
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
    """Images (..., h, w) without the up to three last rows and columns that keep the sides from dividing by 4.
    Raises DataError, naming `what`, when nothing is left."""
    h, w = (size // SCALE * SCALE for size in pixels.shape[-2:])
    if not h or not w:
        raise DataError(f"{what}: images of {pixels.shape[-2]} x {pixels.shape[-1]} pixels are too small")
    return np.ascontiguousarray(pixels[..., :h, :w])


def read_table(path: Path, columns: Collection[str]) -> list[dict[str, str]]:
    """The rows of a CSV file that has these columns, by name. Raises DataError."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable table: {error}") from None
    for number, row in enumerate(rows, start=2):
        missing = [column for column in columns if not row.get(column)]
        if missing:
            raise DataError(f"{path}, line {number}: no {', '.join(missing)}")
    return rows


def finite(pixels: Pixels, what: object) -> Pixels:
    """The pixels, or DataError naming `what` when some are NaN or infinite."""
    if not np.isfinite(pixels).all():
        raise DataError(f"{what}: holds values that are not finite")
    return pixels


def in_head(volume: Pixels) -> list[int]:
    """Which slices of a volume (n, h, w) show more than air: their maximum exceeds a tenth of the volume's."""
    peaks = np.abs(volume).max(axis=(1, 2))
    return [int(i) for i in np.flatnonzero(peaks > 0.1 * peaks.max())]
