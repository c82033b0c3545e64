"""Complex pairs in the form of fastMRI, one file per subject and contrast, h5 or mat:

    ROOT/SUBJECT_CONTRAST.h5                 such as file1000001_PD-FS.h5, or .mat (MATLAB's format up to 7.2)
    ROOT/manifest.csv                        or any names, with columns file, subject, contrast, and site if wanted

A file holds one of these, with slices first:

    kspace   (n, rows, columns) complex      one coil, centred, as fastMRI's single-coil files
    kspace   (n, coils, rows, columns)       several coils; their root sum of squares is taken, which loses the phase
    image    (n, rows, columns)              complex, or magnitudes

The size of `reconstruction_esc` or `reconstruction_rss` (n, rows, columns), if there is one beside `kspace`, is the field
of view; the rest is readout oversampling. Slices with the same number are a pair.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from diffmsr.arrays import Pixels
from diffmsr.data.contrast import contrast_named
from diffmsr.data.datasets import Dataset, register_dataset
from diffmsr.data.slices import Cache, DataError, Slice, StoredImages, add_contrast, finite, fitted, read_table

VIEWS = ("reconstruction_esc", "reconstruction_rss")


def read_fastmri(root: Path) -> list[Slice]:
    """The slices of every subject. Raises DataError when there is none, one has no pair, or sizes differ."""
    subjects: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    for path, subject, contrast, site in _manifest(root) if (root / "manifest.csv").exists() else _named(root):
        add_contrast(subjects[subject, site], contrast_named(contrast), path)
    if not subjects:
        raise DataError(f"{root}: no SUBJECT_CONTRAST.h5 or .mat and no manifest.csv was found")
    cache = Cache()
    return [piece for (name, site), files in subjects.items() for piece in _subject(name, site, files, cache)]


def _named(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    for path in sorted(path for path in root.glob("*") if path.suffix in (".h5", ".mat")):
        subject, _, contrast = path.stem.rpartition("_")
        if not subject:
            raise DataError(f"{path}: not named SUBJECT_CONTRAST{path.suffix}, and there is no manifest.csv")
        yield path, subject, contrast, ""


def _manifest(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    for row in read_table(root / "manifest.csv", ("file", "subject", "contrast")):
        yield root / row["file"], row["subject"], row["contrast"], row.get("site") or ""


def _subject(subject: str, site: str, files: Mapping[str, Path], cache: Cache) -> Iterator[Slice]:
    if len(files) < 2:
        raise DataError(f"{next(iter(files.values()))}: the only contrast of its subject; a pair needs two")
    shapes = {contrast: _shape(path) for contrast, path in files.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{files[contrast].name} {shape}" for contrast, shape in shapes.items())
        raise DataError(
            f"{next(iter(files.values())).parent}: the contrasts of a subject must have one shape: {listed}"
        )

    def image(index: int, contrast: str) -> Pixels:
        path = files[contrast]
        return cache.get((path, index), lambda: _image(path, index))

    for index in range(next(iter(shapes.values()))[0]):
        yield Slice("fastmri", subject, index, "", StoredImages(tuple(sorted(files)), partial(image, index)), site)


def _shape(path: Path) -> tuple[int, int, int]:
    """Slices, rows and columns of a file's images."""
    with _opened(path) as (stored, _, view):
        return int(stored.shape[0]), *view


def _image(path: Path, index: int) -> Pixels:
    """One slice (h, w), complex64 or float32."""
    with _opened(path) as (stored, in_kspace, view):
        try:
            image = np.asarray(stored[index])
        except OSError as error:
            raise DataError(f"{path}: slice {index} cannot be read: {error}") from None
    if in_kspace:
        image = _centred_ifft(image)
    if image.ndim == 3:
        image = np.sqrt((np.abs(image) ** 2).sum(axis=0))
    top, left = ((whole - part) // 2 for whole, part in zip(image.shape, view, strict=True))
    image = image[top : top + view[0], left : left + view[1]]
    kind = np.complex64 if np.iscomplexobj(image) else np.float32
    return fitted(finite(image.astype(kind), path), path)


def _centred_ifft(kspace: Pixels) -> Pixels:
    """The orthonormal transform with the origin of both domains in the middle, as fastMRI defines it."""
    axes = (-2, -1)
    image = np.fft.ifft2(np.fft.ifftshift(kspace, axes), axes=axes, norm="ortho")
    shifted: Pixels = np.fft.fftshift(image, axes)
    return shifted


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, bool, tuple[int, int]]]:
    """The array in a file, whether it is k-space, and the rows and columns of the field of view."""
    try:
        arrays: Any = scipy.io.loadmat(path) if path.suffix == ".mat" else h5py.File(path)
    except NotImplementedError:
        raise DataError(f"{path}: MATLAB 7.3 files cannot be read; save it with -v7, or as h5") from None
    except (OSError, ValueError, TypeError, zlib.error, scipy.io.matlab.MatReadError) as error:
        raise DataError(f"{path}: not a readable file: {error}") from None
    with nullcontext() if isinstance(arrays, dict) else arrays:
        name = "kspace" if "kspace" in arrays else "image"
        if name not in arrays:
            raise DataError(f"{path}: holds neither `kspace` nor `image`")
        if len(arrays[name].shape) not in ((3, 4) if name == "kspace" else (3,)):
            raise DataError(f"{path}: {name} has shape {arrays[name].shape}, not (slices, rows, columns)")
        stored = arrays[name].shape[-2:]
        view = next((arrays[other].shape[-2:] for other in VIEWS if name == "kspace" and other in arrays), stored)
        yield arrays[name], name == "kspace", (min(view[0], stored[0]), min(view[1], stored[1]))


register_dataset(
    Dataset("fastmri", read_fastmri, licence="that of the files; fastMRI has a data use agreement of its own")
)
