"""A folder of paired volumes, NIfTI or DICOM, of your own:

    ROOT/[SITE/]SUBJECT/CONTRAST.nii.gz      (or .nii)
    ROOT/[SITE/]SUBJECT/CONTRAST/*           (one DICOM series)

Names are free. T1, T2, T2-FLAIR, PD and PD-FS, in any usual spelling, are paired by themselves. Where there are sites, a
subject is called `SITE/SUBJECT`. The scanner's coordinates are trusted: the other contrasts are resampled onto the grid of
the target, and averaged over the thickness of its slices where their own are thinner.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813 -- as its own documentation has it

from diffmsr.arrays import Pixels
from diffmsr.data.contrast import contrast_named
from diffmsr.data.datasets import Dataset, register_dataset
from diffmsr.data.slices import Cache, DataError, Slice, StoredImages, add_contrast, finite, fitted, in_head, usual_pair


def read_folder(root: Path) -> list[Slice]:
    """The slices of every subject. Raises DataError when there is none, one has no pair, or a volume is damaged."""
    subjects: dict[Path, dict[str, Path]] = defaultdict(dict)
    for path in _volumes(root):
        name = path.name.removesuffix(".gz").removesuffix(".nii") if path.is_file() else path.name
        add_contrast(subjects[path.parent], contrast_named(name), path)
    if not subjects:
        raise DataError(f"{root}: no SUBJECT/CONTRAST.nii.gz and no SUBJECT/CONTRAST/ with a DICOM series was found")
    cache = Cache()
    return [piece for folder, volumes in subjects.items() for piece in _subject(root, folder, volumes, cache)]


def _volumes(folder: Path) -> Iterator[Path]:
    """NIfTI files, and folders that hold files but neither folders nor NIfTI files."""
    entries = sorted(path for path in folder.glob("*") if not path.name.startswith("."))
    nifti = [path for path in entries if path.name.endswith((".nii", ".nii.gz"))]
    folders = [path for path in entries if path.is_dir()]
    yield from nifti
    for inner in folders:
        yield from _volumes(inner)
    if entries and not nifti and not folders:
        yield folder


def _subject(root: Path, folder: Path, volumes: dict[str, Path], cache: Cache) -> Iterator[Slice]:
    parts = folder.relative_to(root).parts
    if len(parts) not in (1, 2):
        raise DataError(f"{next(iter(volumes.values()))}: not at ROOT/SUBJECT/CONTRAST or ROOT/SITE/SUBJECT/CONTRAST")
    if len(volumes) < 2:
        raise DataError(f"{folder}: only {', '.join(volumes)}; a pair needs two contrasts")
    target = volumes[usual_pair(volumes)[0]]

    def image(z: int, contrast: str) -> Pixels:
        path = volumes[contrast]
        pixels: Pixels = cache.get(path, lambda: _on_grid(path, target))[z]
        return pixels

    for z in in_head(cache.get(target, lambda: _on_grid(target, target))):
        images = StoredImages(tuple(sorted(volumes)), partial(image, z))
        yield Slice("folder", "/".join(parts), z, "", images, parts[0] if len(parts) == 2 else "")


def _load(path: Path) -> sitk.Image:
    try:
        if path.is_file():
            image = sitk.ReadImage(str(path), sitk.sitkFloat32)
            stored: Any = nibabel.load(path)  # since SimpleITK reads NaN as 0
            finite(np.asarray(stored.dataobj), path)
        else:
            series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(path))
            if len(series) != 1:
                raise DataError(f"{path}: holds {len(series)} DICOM series; one is expected")
            files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path), series[0])
            image = sitk.ReadImage(files, sitk.sitkFloat32)
    except RuntimeError as error:
        raise DataError(f"{path}: not a readable volume: {str(error).strip().splitlines()[-1]}") from None
    if image.GetDimension() != 3:
        raise DataError(f"{path}: has {image.GetDimension()} dimensions, not 3")
    return image


def _on_grid(path: Path, grid_path: Path) -> Pixels:
    """The volume (n, h, w) of a file on the grid of another, by cubic B-splines, with negative values at 0."""
    source = _load(path)
    if path == grid_path:
        pixels = sitk.GetArrayFromImage(source)
    else:
        pixels = _resampled(source, _load(grid_path))
    if not pixels.any():
        raise DataError(
            f"{path}: empty" + ("" if path == grid_path else f" inside the field of view of {grid_path.name}")
        )
    return fitted(np.clip(pixels, 0, None).astype(np.float32), path)


def _resampled(source: sitk.Image, grid: sitk.Image) -> Pixels:
    """The source on the grid: per slice, the mean of as many planes as the source has within its thickness."""
    planes = max(1, round(grid.GetSpacing()[2] / min(source.GetSpacing())))
    columns, rows, slices = grid.GetSize()
    first = [0.0, 0.0, (1 - planes) / (2 * planes)]
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize((columns, rows, slices * planes))
    resampler.SetOutputSpacing((*grid.GetSpacing()[:2], grid.GetSpacing()[2] / planes))
    resampler.SetOutputOrigin(grid.TransformContinuousIndexToPhysicalPoint(first))
    resampler.SetOutputDirection(grid.GetDirection())
    resampler.SetInterpolator(sitk.sitkBSpline)
    pixels = sitk.GetArrayFromImage(resampler.Execute(source))
    averaged: Pixels = pixels.reshape(slices, planes, rows, columns).mean(axis=1)
    return averaged


register_dataset(Dataset("folder", read_folder, licence="that of the files"))
