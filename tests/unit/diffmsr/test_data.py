"""Data sets: splits by patient, the degradation, and one clear line for bad data."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from diffmsr import kspace
from diffmsr.data import (
    Augmentation,
    DataError,
    Slice,
    degrade,
    read_lgg,
    read_open_ms,
    smooth_phase,
    subject_bandwidth,
    training_sample,
)


def phantom(rows: int = 128, columns: int = 128, seed: int = 0) -> np.ndarray:
    """White noise in an ellipse: every frequency is present."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    noise = np.random.default_rng(seed).random((rows, columns))
    return ((x**2 + y**2 < 0.8) * (0.5 + noise)).astype(np.float32)


@pytest.fixture
def lgg(tmp_path: Path) -> Path:
    rows = ["file,subject,site,slice,has_t1post"]
    for name, site, post in (("a", "CS", 1), ("b", "DU", 0), ("c", "HT", 1)):
        pixels = np.stack([255 * phantom(64, 64, seed) / 2 for seed in range(3)], axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.webp", lossless=True)
        rows.append(f"{name}.webp,patient-{name},{site},3,{post}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_lgg_is_split_by_site(lgg: Path) -> None:
    slices = read_lgg(lgg)
    assert {(piece.subject, piece.held_out) for piece in slices} == {
        ("patient-a", True),
        ("patient-b", False),
        ("patient-c", False),
    }
    assert set(slices[0].images) == {"T1", "T2-FLAIR", "T1-POST"}
    assert set(slices[1].images) == {"T1", "T2-FLAIR"}
    with Image.open(lgg / "a.webp") as image:
        assert np.array_equal(slices[0].images["T2-FLAIR"], np.asarray(image)[..., 1])


def test_lgg_bad_data_gives_one_line(lgg: Path, tmp_path: Path) -> None:
    (lgg / "b.webp").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"not a readable LGG folder: .*b\.webp") as caught:
        read_lgg(lgg)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"manifest\.csv"):
        read_lgg(tmp_path / "nowhere")


@pytest.fixture
def open_ms(tmp_path: Path) -> Path:
    """A T2 of 48 x 62 x 3 voxels, and a T1 and FLAIR of the same ramp on coarser, shifted grids."""
    for patient in ("patient01", "patient04"):
        (tmp_path / patient).mkdir()
        for name, spacing, shape, origin in (
            ("T2W", 1.0, (48, 62, 3), 0.0),
            ("T1W", 2.0, (34, 41, 5), -8.0),
            ("FLAIR", 1.0, (48, 62, 3), 0.0),
        ):
            affine = np.diag([spacing, spacing, 1.0, 1.0])
            affine[:3, 3] = origin, origin, -1.0 if name == "T1W" else 0.0
            x = origin + spacing * np.arange(shape[0])[:, None, None]
            volume = np.broadcast_to(50 + x, shape).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / patient / f"study1_{name}.nii.gz")
    return tmp_path


def test_open_ms_is_on_the_grid_of_the_t2(open_ms: Path) -> None:
    slices = read_open_ms(open_ms)
    assert [(piece.subject, piece.held_out) for piece in slices] == [("patient01", False)] * 3 + [
        ("patient04", True)
    ] * 3
    images = slices[0].images
    assert {image.shape for image in images.values()} == {(48, 60)}
    inside = np.s_[4:-4, 4:-4]
    assert np.allclose(images["T1"][inside], images["T2"][inside], atol=0.1)


def test_open_ms_bad_data_gives_one_line(open_ms: Path, tmp_path: Path) -> None:
    (open_ms / "patient01" / "study1_T1W.nii.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(DataError, match=r"study1_T1W\.nii\.gz: not a readable NIfTI volume"):
        read_open_ms(open_ms)
    with pytest.raises(DataError, match="no patient"):
        read_open_ms(tmp_path / "nowhere")


def test_degradation_keeps_the_mean_and_follows_its_seed() -> None:
    truth = torch.from_numpy(phantom())
    low, again, other = (degrade(truth, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert low.shape == (32, 32)
    assert torch.equal(low, again) and not torch.equal(low, other)
    assert float(low.mean()) == pytest.approx(float(truth.mean()), rel=0.1)
    noisy = degrade(truth, np.random.default_rng(1), noise=0.05)
    assert 0.01 < float((noisy - low).std()) < 0.1


def test_the_phase_is_smooth() -> None:
    phase = smooth_phase(100, 120, np.random.default_rng(0))
    assert float(torch.diff(phase, dim=0).abs().max()) < 0.3
    assert float(phase.std()) > 0.1


def test_bandwidth_finds_what_the_scanner_zero_filled() -> None:
    full = phantom()
    half = kspace.crop(torch.from_numpy(full), 128, 70)
    filled = kspace.zero_fill(half, 128, 128).real.numpy()
    subject = {"full": full, "filled": filled}
    pieces = [Slice("x", "x", 0, True, {name: image.astype(np.float16) for name, image in subject.items()})]
    assert subject_bandwidth(pieces, "full") > 0.95
    assert subject_bandwidth(pieces, "filled") == pytest.approx(70 / 128, abs=0.08)


def test_a_training_sample_is_aligned() -> None:
    """The zero-filled image resembles the truth of its patch, on the grid: pixel 4 i is the low-resolution pixel i."""
    smooth = kspace.zero_fill(torch.from_numpy(phantom(32, 40)), 128, 160).real.clamp_min(0).numpy()
    piece = Slice("x", "x", 0, False, {"T2": smooth.astype(np.float16), "T1": smooth.astype(np.float16)})
    for seed in range(8):
        low, truth, reference, skip = training_sample(piece, 64, np.random.default_rng(seed), Augmentation())
        assert low.shape == (16, 16) and truth.shape == reference.shape == skip.shape == (64, 64)
        assert torch.allclose(skip[::4, ::4], low, atol=1e-4)
        assert float((skip - truth).square().mean().sqrt()) < 0.2 * float(truth.std())


def anatomy(rows: int = 128, columns: int = 160) -> np.ndarray:
    """Something smooth enough to be moved by a part of a pixel."""
    return kspace.zero_fill(torch.from_numpy(phantom(rows // 4, columns // 4)), rows, columns).real.clamp_min(0).numpy()


def references(seeds: range, **changes: float) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The reference of the same samples without augmentation, and with these."""
    none = Augmentation(deployed_roles=1, gamma=0, inversion=0, noise=0, misplacement=0, dropout=0)
    piece = Slice("x", "x", 0, False, {"T2": anatomy().astype(np.float16), "T1": anatomy().astype(np.float16)})
    for seed in seeds:
        plain, augmented = (
            training_sample(piece, 64, np.random.default_rng(seed), augmentation)
            for augmentation in (none, replace(none, **changes))
        )
        assert all(torch.equal(plain[i], augmented[i]) for i in (0, 1, 3))
        yield plain[2], augmented[2]


def test_a_reference_is_misplaced_by_no_more_than_configured() -> None:
    inner = np.s_[8:-8, 8:-8]
    for plain, moved in references(range(6), misplacement=1, shift=2, rotation=0):
        errors = {
            (dy, dx): float((moved.roll((dy, dx), (0, 1)) - plain)[inner].square().mean())
            for dy in range(-4, 5)
            for dx in range(-4, 5)
        }
        dy, dx = min(errors, key=errors.__getitem__)
        assert abs(dy) <= 2 and abs(dx) <= 2
        assert not torch.equal(plain, moved)
    for plain, moved in references(range(3), misplacement=1, shift=0, rotation=0):
        assert torch.allclose(plain, moved, atol=1e-4)
    for plain, turned in references(range(3), misplacement=1, shift=0, rotation=2):
        error = (plain - turned).abs()
        assert float(error[24:40, 24:40].mean()) < 0.7 * float(error.mean())


def test_a_reference_is_dropped_in_its_share() -> None:
    assert all(not dropped.any() for _, dropped in references(range(4), dropout=1))
    share = np.mean([not dropped.any() for _, dropped in references(range(60), dropout=0.5)])
    assert 0.25 < share < 0.75
