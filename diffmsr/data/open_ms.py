"""open_ms: brains with multiple sclerosis (Lesjak et al. 2016), in two forms.

`open_ms` has two studies per patient as the scanner gave them. `open_ms_mni` has one study per patient, without skull, all
contrasts already resampled onto one grid of 1 mm (Lesjak et al. 2017).

A folder holds patientNN/studyN_{T1W,T2W,FLAIR}.nii.gz, which are resampled onto the grid of the T2, and, where people drew
them, studyN_lesions.nii.gz on that grid. The scanner's
coordinates are trusted: the studies were acquired without repositioning. Slices outside the head are left out. A slice's
subject is its patient. The arrays run from right to left first, then from back to front.
"""

import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy.ndimage import affine_transform

from diffmsr.arrays import Pixels
from diffmsr.data.datasets import Dataset, register_dataset
from diffmsr.data.slices import Cache, DataError, Slice, StoredImages, finite, fitted, in_head
from diffmsr.data.split import Members

FILES = {"T1": "T1W", "T2": "T2W", "T2-FLAIR": "FLAIR"}


def read_open_ms(root: Path, name: str = "open_ms") -> list[Slice]:
    """The slices of every study, as of the data set `name`. Raises DataError when there is none, or a volume is missing or
    damaged."""
    studies = sorted(root.glob("patient*/study*_T2W.nii.gz"))
    if not studies:
        raise DataError(f"{root}: no patient*/study*_T2W.nii.gz")
    cache = Cache()
    return [piece for path in studies for piece in _study(path, name, cache)]


def _study(t2_path: Path, name: str, cache: Cache) -> Iterator[Slice]:
    paths = {contrast: t2_path.with_name(t2_path.name.replace("T2W", name)) for contrast, name in FILES.items()}

    def image(z: int, contrast: str) -> Pixels:
        path = paths[contrast]
        pixels: Pixels = cache.get(path, lambda: _on_grid(path, t2_path))[z]
        return pixels

    for path in paths.values():
        _header(path)
    drawn = t2_path.with_name(t2_path.name.replace("T2W", "lesions"))

    def lesions(z: int) -> Pixels:
        mask: Pixels = cache.get(drawn, lambda: _on_grid(drawn, t2_path))[z]
        return mask

    for z in in_head(cache.get(t2_path, lambda: _on_grid(t2_path, t2_path))):
        images = StoredImages(tuple(FILES), partial(image, z))
        yield Slice(name, t2_path.parent.name, z, "", images, lesions=partial(lesions, z) if drawn.is_file() else None)


def _header(path: Path) -> Any:
    try:
        volume: Any = nibabel.load(path)
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise DataError(f"{path}: not a readable NIfTI volume: {error}") from None
    if len(volume.shape) != 3:
        raise DataError(f"{path}: its shape is {volume.shape}, which is not a volume's")
    return volume


def _on_grid(path: Path, grid_path: Path) -> Pixels:
    """The volume (n, h, w) of a file on the grid of another, by cubic splines, with negative values at 0."""
    volume, grid = _header(path), _header(grid_path)
    try:
        pixels = finite(np.asarray(volume.dataobj, dtype=np.float32), path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a readable NIfTI volume: {error}") from None
    to_source = np.linalg.inv(volume.affine) @ grid.affine
    if not np.allclose(to_source, np.eye(4), atol=1e-4):
        pixels = affine_transform(pixels, to_source[:3, :3], to_source[:3, 3], grid.shape, order=3)
    return fitted(np.moveaxis(np.clip(pixels, 0, None), -1, 0), path)


register_dataset(
    Dataset(
        "open_ms",
        read_open_ms,
        licence="CC BY",
        weights_licence="CC BY",
        training_note="open_ms (CC BY, Lesjak et al. 2016), without patient04",
        split={"held-out": Members(subjects=frozenset({"patient04"}))},
        quarter_turns=1,
    )
)
register_dataset(
    Dataset(
        "open_ms_mni",
        partial(read_open_ms, name="open_ms_mni"),
        licence="CC BY",
        weights_licence="CC BY",
        training_note="open_ms_mni (CC BY, Lesjak et al. 2017), patient07",
        split={"validation": Members(subjects=frozenset({"patient19"}))},
        without_skull=True,
        quarter_turns=1,
    )
)
