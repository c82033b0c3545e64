"""Durable files: the instances received, the super-resolved volumes, the derived instances.

The only code that writes pixel files. A file is there whole or not at all: written under a temporary name, fsynced,
renamed, and its folder fsynced, so that what was acknowledged survives a loss of power.
"""

import errno
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from node.errors import ConfigError, DamagedFileError, StorageError, StorageFullError

_MOST_DEFLATED = 100
_SMALL_ENOUGH = 32 << 20
"""A deflated data set may grow to so many times its size, or to so many bytes."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def is_uid(value: str) -> bool:
    """Whether `value` is a UID by form (PS3.5 section 9.1; leading zeros, which real files have, are let through).
    Only such values ever become part of a file name."""
    return len(value) <= 64 and _UID.fullmatch(value) is not None


@dataclass(frozen=True)
class Registration:
    """How the reference was found to lie to the target, in-plane, over the whole stack: what was left after the scanner's
    coordinates were trusted. What the target shows at p, relative to the centre of its field of view, the reference
    shows at rotation(p) + shift."""

    shift_mm: tuple[float, float]
    """Along a row, along a column."""
    rotation_deg: float
    """From the direction along a row towards that along a column."""
    trusted: bool
    """Whether the figures are to be believed: there was something to compare, and even and odd slices agree."""
    corrected: bool
    """Whether the reference was moved accordingly before it guided."""
    displacement_mm: float
    """By how much, at most, that displaces what lies within the head."""
    spread_mm: float | None
    """How far apart even and odd slices, taken alone, put the reference, at most within the head; None of a stack too
    small to be halved."""


@dataclass(frozen=True)
class Quality:
    """What the infer stage measured of a result, and its grade by the thresholds of the configuration."""

    consistency: list[float]
    """For each slice: norm of the difference between the measured low-resolution k-space and the result's centre of
    k-space, over the norm of the former."""
    intensity_drift: list[float]
    """For each slice: mean intensity of the result over that of the zero-filled target, less 1."""
    registration: Registration | None
    """None when it was not asked for."""
    seed_spread: list[float] | None
    """For each slice: mean over pixels of the standard deviation over an ensemble of seeds, over the slice's maximum;
    None when no ensemble was asked for."""
    usable: bool
    reasons: list[str]
    """A sentence for every threshold that was crossed; empty when usable."""


@dataclass(frozen=True)
class Result:
    """A super-resolved stack, as the infer stage leaves it and the deliver stage finds it.

    pixels: (n, rows, columns) float32, in the target's stored-value unit, slices in the order of `source_uids`.
    positions: (n, 3) mm, centre of the first pixel of each slice (ImagePositionPatient).
    orientation: (row cosine, column cosine), each (x, y, z) (ImageOrientationPatient).
    spacing: (between rows, between columns) mm (PixelSpacing).
    """

    pixels: NDArray[np.float32]
    positions: NDArray[np.float64]
    orientation: tuple[tuple[float, float, float], tuple[float, float, float]]
    spacing: tuple[float, float]
    source_uids: list[str]
    reference_uids: list[list[str]]  # for each slice, the reference instances that contributed to it
    model_name: str
    model_version: str
    weights_sha256: str
    scale: int
    parameters: dict[str, str]  # everything else that changes pixels
    warnings: list[str]
    source_frames: list[int] | None = None  # of `source_uids`, frame numbers from 1, when the target is multi-frame
    reference_frames: list[list[int]] | None = None  # of `reference_uids`, likewise
    quality: Quality | None = None


class Archive:
    """The folder `data_dir`: instances/STUDY/SERIES/SOP.dcm, results/KEY.npz, derived/KEY/NUMBER-SOP.dcm
    and derived/KEY/report.html."""

    def __init__(self, data_dir: Path, reserve_gb: float = 0.0) -> None:
        self.root = data_dir
        self._reserve_bytes = int(reserve_gb * 1e9)
        try:
            for folder in ("instances", "results", "derived", "incoming"):
                (data_dir / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"[node] data_dir: cannot make {error.filename}: {error.strerror}") from None

    def put_instance(self, study_uid: str, series_uid: str, sop_uid: str, content: bytes) -> Path:
        """Keep a received Part 10 file; returns its path. Raises StorageFullError before anything is written when the
        disk is below its reserve, StorageError on any other failure. Putting the same UID again replaces the file
        atomically: the tracker decides beforehand whether it may."""
        for uid in (study_uid, series_uid, sop_uid):
            if not is_uid(uid):
                raise StorageError("not a valid UID, so not usable as a file name")
        return self._put(self.root / "instances" / study_uid / series_uid / f"{sop_uid}.dcm", content)

    def put_derived(self, key: str, instances: Iterable[tuple[str, bytes]], page: str) -> dict[str, Path]:
        """Keep what was made of the result `key`: (SOP instance UID, Part 10 file) in the order to be sent, and the
        report's page. The files sort by name as they are to be sent, and count only when the last of them is there."""
        folder = self.derived_folder(key)
        self._put(self.report_page(key), page.encode())
        paths = {uid: self._put(folder / f"{n:05d}-{uid}.dcm", content) for n, (uid, content) in enumerate(instances)}
        self._put(folder / "index.json", json.dumps({uid: path.name for uid, path in paths.items()}).encode())
        return paths

    def derived(self, key: str) -> dict[str, Path] | None:
        """What `put_derived` kept, in the order to be sent; None when it was not made yet, or not to the end."""
        folder = self.derived_folder(key)
        try:
            index: dict[str, str] = json.loads((folder / "index.json").read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StorageError(f"the index of {folder} cannot be read: {error}") from None
        return {uid: folder / name for uid, name in index.items()}

    def derived_folder(self, key: str) -> Path:
        return self.root / "derived" / key

    def report_page(self, key: str) -> Path:
        """Where the report on the result `key` lies, as HTML, when it was made."""
        return self.derived_folder(key) / "report.html"

    def put_result(self, key: str, result: Result) -> Path:
        """Keep a super-resolved volume under `key`; returns its path."""
        facts = {k: v for k, v in asdict(result).items() if k not in ("pixels", "positions")}
        with self._writing(self._result_path(key)) as file:
            np.savez(file, pixels=result.pixels, positions=result.positions, facts=np.array(json.dumps(facts)))
        return self._result_path(key)

    def open_result(self, key: str) -> Result:
        """Read back what `put_result` kept; StorageError when it is missing or damaged."""
        try:
            with np.load(self._result_path(key), allow_pickle=False) as file:
                facts = json.loads(str(file["facts"]))
                row, column = facts.pop("orientation")
                spacing = facts.pop("spacing")
                quality = facts.pop("quality")
                return Result(
                    pixels=file["pixels"],
                    positions=file["positions"],
                    orientation=(tuple(row), tuple(column)),
                    spacing=(spacing[0], spacing[1]),
                    quality=None if quality is None else _quality(quality),
                    **facts,
                )
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise StorageError(f"the result {key} cannot be read: {error}") from None

    def quality(self, key: str) -> Quality | None:
        """What was measured of a kept result, without reading its pixels; None when nothing was, or it is gone."""
        try:
            with np.load(self._result_path(key), allow_pickle=False) as file:
                quality = json.loads(str(file["facts"]))["quality"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None
        return None if quality is None else _quality(quality)

    def has_result(self, key: str) -> bool:
        return self._result_path(key).is_file()

    def discard_incoming(self) -> int:
        """Remove temporary files a crash left behind; none of them was ever acknowledged. Returns how many."""
        left = list((self.root / "incoming").iterdir())
        for file in left:
            file.unlink(missing_ok=True)
        return len(left)

    def check_space(self) -> None:
        """Raise StorageFullError when the disk has less than the reserve left."""
        free = shutil.disk_usage(self.root).free
        if free < self._reserve_bytes:
            raise StorageFullError(
                f"{free / 1e9:.1f} GB left under {self.root}, below [storage] reserve_gb = {self._reserve_bytes / 1e9:g}; "
                "free some space, or lower the reserve"
            )

    def _result_path(self, key: str) -> Path:
        return self.root / "results" / f"{key}.npz"

    def _put(self, path: Path, content: bytes) -> Path:
        with self._writing(path) as file:
            file.write(content)
        return path

    @contextmanager
    def _writing(self, path: Path) -> Iterator[IO[bytes]]:
        self.check_space()
        with _writing(path, self.root / "incoming") as file:
            yield file


def _quality(facts: dict[str, Any]) -> Quality:
    registration = facts.pop("registration")
    if registration is not None:
        along_row, along_column = registration.pop("shift_mm")
        registration = Registration(shift_mm=(along_row, along_column), **registration)
    return Quality(registration=registration, **facts)


def read_header(path: Path) -> Dataset:
    """The data set of a file without its pixels. Raises as `read_instance`."""
    return _read(path, stop_before_pixels=True)


def read_instance(path: Path) -> Dataset:
    """The data set of a Part 10 file. Raises StorageError when the file is gone or cannot be read, DamagedFileError when
    it is no DICOM file or a damaged one."""
    return _read(path, stop_before_pixels=False)


def _read(path: Path, *, stop_before_pixels: bool) -> Dataset:
    try:
        with path.open("rb") as file:
            return parse(file, stop_before_pixels=stop_before_pixels)
    except InvalidDicomError:
        raise DamagedFileError(path, "not a DICOM file") from None
    except Exception as error:  # a damaged file can fail anywhere in the parser
        if isinstance(error, OSError) and error.errno is not None:  # without a number it is pydicom's, of an early end
            raise StorageError(f"cannot read {path}: {error.strerror}") from None
        raise DamagedFileError(path, f"damaged, it cannot be read ({type(error).__name__})") from None


def parse(file: BinaryIO, *, stop_before_pixels: bool) -> Dataset:
    """The data set of an open Part 10 file; whatever pydicom raises on a damaged one, and ValueError when it is deflated
    and would fill memory."""
    read_preamble(file, False)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian and _is_bomb(file.read()):
        raise ValueError("the data set becomes far larger than it is when it is inflated")
    file.seek(0)
    instance = dcmread(file, stop_before_pixels=stop_before_pixels)
    if stop_before_pixels and meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        instance.ends_before_pixels = not file.read(1)
    return instance


def has_pixels(header: Dataset) -> bool:
    """Whether pixels follow a header that `read_header` gave; of others, and of deflated files, that is not known, and
    they count as having some."""
    return not getattr(header, "ends_before_pixels", False)


def _is_bomb(deflated: bytes) -> bool:
    """Whether inflating would take much more memory than what was sent: no image is a hundredth of its size deflated."""
    room = max(_SMALL_ENOUGH, len(deflated) * _MOST_DEFLATED)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while deflated and room > 0:
        room -= len(inflater.decompress(deflated, 1 << 20))
        deflated = inflater.unconsumed_tail
    return room <= 0


def write_durably(path: Path, content: bytes) -> None:
    """Write a whole file or none, folders included, so that it survives a loss of power. Raises StorageError."""
    with _writing(path, path.parent) as file:
        file.write(content)


@contextmanager
def _writing(path: Path, scratch: Path) -> Iterator[IO[bytes]]:
    """A temporary file in `scratch` (on the same disk) that becomes `path` when the block ends well."""
    temporary: Path | None = None
    try:
        new_folders = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=scratch, prefix=".part-", delete=False) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        for folder in [path.parent, *(f.parent for f in new_folders)]:
            _fsync_folder(folder)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        kind = StorageFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(f"cannot write {path}: {error.strerror}") from None


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
