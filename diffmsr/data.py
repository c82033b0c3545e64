"""Training and test images: readers of the two data sets, and the degradation that makes a low-resolution image.

A slice is a set of magnitude images of one anatomy, one a contrast, all on one grid whose sides divide by 4.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import affine_transform
from torch import Tensor

from diffmsr import kspace

SCALE = 4
HELD_OUT_SITE = "CS"
"""LGG: a whole hospital, 16 subjects and 170 slices, is never trained on."""
HELD_OUT_PATIENT = "patient04"
"""open_ms: one of the two patients is never trained on."""
LGG_CONTRASTS = ("T1", "T2-FLAIR", "T1-POST")
OPEN_MS_FILES = {"T1": "T1W", "T2": "T2W", "T2-FLAIR": "FLAIR"}


class DataError(ValueError):
    """A data set is missing, or a file of it is not what it should be."""


@dataclass(frozen=True)
class Slice:
    """Images (h, w) of one anatomical slice, by contrast; `subject` is the patient they belong to."""

    dataset: str
    subject: str
    index: int
    held_out: bool
    images: Mapping[str, NDArray[np.float16] | NDArray[np.uint8]]


def read_lgg(root: Path) -> list[Slice]:
    """The LGG folder: `manifest.csv` and one WebP a slice, whose channels are T1, T2-FLAIR, T1 post-contrast."""
    manifest = root / "manifest.csv"
    try:
        with manifest.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [_lgg_slice(root, row) for row in rows]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{root}: not a readable LGG folder: {error}") from None


def _lgg_slice(root: Path, row: dict[str, str]) -> Slice:
    with Image.open(root / row["file"]) as image:
        pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.shape[0] % SCALE or pixels.shape[1] % SCALE:
        raise ValueError(f"{row['file']} is {pixels.shape}, not three channels whose sides divide by {SCALE}")
    present = LGG_CONTRASTS if row["has_t1post"] == "1" else LGG_CONTRASTS[:2]
    images = {contrast: np.ascontiguousarray(pixels[..., i]) for i, contrast in enumerate(present)}
    return Slice("lgg", row["subject"], int(row["slice"]), row["site"] == HELD_OUT_SITE, images)


def read_open_ms(root: Path) -> list[Slice]:
    """The open_ms folder: patientNN/studyN_{T1W,T2W,FLAIR}.nii.gz, resampled here onto the grid of the T2.

    The scanner's coordinates are trusted (the studies were acquired without repositioning); slices outside the head
    are left out. A slice's subject is its patient.
    """
    studies = sorted(root.glob("patient*/study*_T2W.nii.gz"))
    if not studies:
        raise DataError(f"{root}: no patient*/study*_T2W.nii.gz")
    return [piece for path in studies for piece in _open_ms_study(path)]


def _open_ms_study(t2_path: Path) -> Iterator[Slice]:
    volumes: dict[str, NDArray[np.float32]] = {}
    grid: Any = nibabel.load(t2_path)
    for contrast, name in OPEN_MS_FILES.items():
        path = t2_path.with_name(t2_path.name.replace("T2W", name))
        try:
            volume: Any = nibabel.load(path)
            pixels = np.asarray(volume.dataobj, dtype=np.float32)
        except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
            raise DataError(f"{path}: not a readable NIfTI volume: {error}") from None
        to_source = np.linalg.inv(volume.affine) @ grid.affine
        if not np.allclose(to_source, np.eye(4), atol=1e-4):
            pixels = affine_transform(pixels, to_source[:3, :3], to_source[:3, 3], grid.shape, order=3)
        volumes[contrast] = np.clip(pixels, 0, None)
    height, width = (size // SCALE * SCALE for size in grid.shape[:2])
    t2 = volumes["T2"]
    for z in np.flatnonzero(t2.max(axis=(0, 1)) > 0.1 * t2.max()):
        images = {
            contrast: np.ascontiguousarray(volume[:height, :width, z], dtype=np.float16)
            for contrast, volume in volumes.items()
        }
        patient = t2_path.parent.name
        yield Slice("open_ms", patient, int(z), patient == HELD_OUT_PATIENT, images)


READERS = {"lgg": read_lgg, "open_ms": read_open_ms}


def subject_bandwidth(slices: Sequence[Slice], contrast: str) -> float:
    """Share of the k-space radius, along the narrower axis, that one subject's images of a contrast really fill.

    A scanner that zero-fills leaves a step in the spectrum, where anatomy only declines: the bandwidth is where the
    energy falls most steeply, if it falls there by more than `STEP` within a sixteenth of the radius; else it is 1.
    Volumes of different matrix may be mixed; the spectra of each matrix are averaged, and the narrowest counts.
    """
    spectra: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for piece in slices:
        energy = kspace.fft2c(torch.from_numpy(piece.images[contrast].astype(np.float32))).abs().square()
        spectra[energy.shape].append(energy)
    means = [torch.stack(group).mean(dim=0) for group in spectra.values()]
    return min(_step_position(energy.mean(dim=1 - axis)) for energy in means for axis in (0, 1))


STEP = 3.5
"""Anatomy's energy falls 1.5 to 2.5 times within a sixteenth of the radius (90 LGG subjects), a scanner's edge 4 to 8."""


def _step_position(profile: Tensor) -> float:
    """Where a centred energy profile has its edge, as a share of its radius."""
    half = len(profile) // 2
    folded = (profile[half : 2 * half] + profile[1 : half + 1].flip(0)) / 2
    width = max(1, half // 16)
    smooth = folded.unfold(0, width, 1).mean(dim=1)
    fall = smooth[:-width] / smooth[width:].clamp_min(1e-12 * float(smooth[0]))
    fall[: half // 3] = 0  # at the lowest frequencies anatomy is as steep
    at = int(fall.argmax())
    return (at + width) / half if fall[at] > STEP else 1.0


def smooth_phase(rows: int, columns: int, rng: np.random.Generator) -> Tensor:
    """A random phase (rows, columns) in radians, quadratic in space, as coils and field inhomogeneity leave it."""
    y, x = torch.linspace(-1, 1, rows)[:, None], torch.linspace(-1, 1, columns)
    c = torch.from_numpy(rng.normal(0, [1, 0.6, 0.6, 0.4, 0.4, 0.4]).astype(np.float32))
    return c[0] + c[1] * x + c[2] * y + c[3] * x * y + c[4] * x * x + c[5] * y * y


def degrade(truth: Tensor, rng: np.random.Generator, noise: float = 0.0) -> Tensor:
    """The low-resolution magnitude (h / 4, w / 4) of a magnitude image (h, w).

    As a scanner would: a smooth phase makes the image complex, only the centre of its k-space is acquired, complex
    Gaussian noise of standard deviation `noise` (in the image's unit, a channel) joins, and the magnitude is kept.
    """
    rows, columns = truth.shape
    low = kspace.crop(torch.polar(truth, smooth_phase(rows, columns, rng)), rows // SCALE, columns // SCALE)
    if noise:
        low = low + torch.view_as_complex(torch.from_numpy(rng.normal(0, noise, (*low.shape, 2)).astype(np.float32)))
    return low.abs()


@dataclass(frozen=True)
class Augmentation:
    """How training samples vary. A share is the probability that a sample is changed so."""

    deployed_roles: float = 0.65
    """Share of samples with the deployed roles: T2, or T2-FLAIR where there is none, by T1; else any two contrasts."""
    gamma: float = 0.3
    """Share whose reference is raised to a power between exp(-0.5) and exp(0.5)."""
    inversion: float = 0.05
    """Share whose reference is inverted."""
    noise: float = 0.004
    """Largest standard deviation of the noise in the low-resolution image, as a share of the truth's maximum."""
    misplacement: float = 0.3
    """Share whose reference lies a little beside the target: registration is never perfect."""
    shift: float = 2.0
    """Largest misplacement along each axis, in high-resolution pixels."""
    rotation: float = 1.0
    """Largest rotation of a misplaced reference about the middle of the patch, in degrees."""
    dropout: float = 0.03
    """Share whose reference is zero: a reference that shows nothing must do no harm."""


def draw_pair(piece: Slice, deployed_roles: float, rng: np.random.Generator) -> tuple[str, str]:
    """Target and reference contrast of a training sample: in that share the deployed roles, else any two contrasts."""
    if rng.random() < deployed_roles:
        return ("T2" if "T2" in piece.images else "T2-FLAIR"), "T1"
    target, reference = rng.choice(sorted(piece.images), 2, replace=False)
    return str(target), str(reference)


def training_sample(
    piece: Slice, patch: int, rng: np.random.Generator, augmentation: Augmentation
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A patch of a slice: low (p/4, p/4), truth, reference and zero-filled target (p, p), normalised as for inference.

    Flipped, transposed and augmented, all by `rng`. The low-resolution image and the zero-filled one are made of the
    whole slice: a patch has no k-space of its own.
    """
    target, source = draw_pair(piece, augmentation.deployed_roles, rng)
    truth, reference = (torch.from_numpy(piece.images[name].astype(np.float32)) for name in (target, source))
    truth, reference = truth / truth.amax().clamp_min(1e-6), reference / reference.amax().clamp_min(1e-6)
    for axis in (0, 1):
        if rng.random() < 0.5:
            truth, reference = truth.flip(axis), reference.flip(axis)
    if rng.random() < 0.5:
        truth, reference = truth.T, reference.T
    if rng.random() < augmentation.gamma:
        reference = reference ** float(np.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < augmentation.inversion:
        reference = 1 - reference
    low = degrade(truth, rng, noise=float(rng.uniform(0, augmentation.noise)))
    unit = low.amax().clamp_min(1e-3)
    low, truth = low / unit, truth / unit
    rows, columns = truth.shape
    skip = kspace.zero_fill(low, rows, columns).real
    for _ in range(5):  # a patch of air teaches little
        y, x = (SCALE * int(rng.integers((size - patch) // SCALE + 1)) for size in (rows, columns))
        window = (slice(y, y + patch), slice(x, x + patch))
        if truth[window].mean() > 0.08:
            break
    coarse = tuple(slice(part.start // SCALE, part.stop // SCALE) for part in window)
    guide = reference[window]
    if rng.random() < augmentation.misplacement:
        guide = _misplaced(reference, window, augmentation, rng)
    if rng.random() < augmentation.dropout:
        guide = torch.zeros_like(guide)
    return low[coarse], truth[window], guide, skip[window]


def _misplaced(
    image: Tensor, window: tuple[slice, slice], augmentation: Augmentation, rng: np.random.Generator
) -> Tensor:
    """The window of an image (h, w) as if the patient had moved: shifted and turned in the plane, cubic, in [0, 1]."""
    dy, dx = rng.uniform(-augmentation.shift, augmentation.shift, 2)
    angle = np.deg2rad(rng.uniform(-augmentation.rotation, augmentation.rotation))
    half_y, half_x = ((part.stop - part.start - 1) / 2 for part in window)
    y = torch.arange(window[0].stop - window[0].start)[:, None] - half_y
    x = torch.arange(window[1].stop - window[1].start) - half_x
    rows = window[0].start + half_y + dy + float(np.cos(angle)) * y - float(np.sin(angle)) * x
    columns = window[1].start + half_x + dx + float(np.sin(angle)) * y + float(np.cos(angle)) * x
    h, w = image.shape
    grid = torch.stack([2 * columns / (w - 1) - 1, 2 * rows / (h - 1) - 1], dim=-1)
    moved = F.grid_sample(image[None, None], grid[None].float(), "bicubic", "border", align_corners=True)
    return moved[0, 0].clamp(0, 1)
