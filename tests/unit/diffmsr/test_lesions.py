"""`diffmsr lesions`: contrast, volume and detection of lesions that people drew."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from diffmsr.data import DataError
from diffmsr.evaluate import evaluate_lesions, lesion_table

SIDE, SLICES = 96, 4
SMALL, LARGE = (30, 30, 2), (60, 62, 8)
"""Column, row and width in voxels: 2 x 2 in one slice, 8 x 8 in three."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A disc with texture and two bright lesions. The T1 equals the T2, so that a method may copy it."""
    rng = np.random.default_rng(3)
    x, y = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    volume = np.where((x**2 + y**2 < 44**2)[..., None], 100 + 2 * rng.standard_normal((SIDE, SIDE, SLICES)), 0)
    mask = np.zeros_like(volume)
    for (column, row, width), depth in ((SMALL, slice(1, 2)), (LARGE, slice(0, 3))):
        where = np.s_[column : column + width, row : row + width, depth]
        volume[where] += 60
        mask[where] = 1
    (tmp_path / "patient19").mkdir()
    for name, pixels in (("T1W", volume), ("T2W", volume), ("FLAIR", volume), ("lesions", mask)):
        image = nibabel.Nifti1Image(pixels.astype(np.float32), np.eye(4))
        nibabel.save(image, tmp_path / "patient19" / f"study1_{name}.nii.gz")
    return tmp_path


def test_a_lesion_is_measured_in_every_image(folder: Path) -> None:
    figures = evaluate_lesions(
        "open_ms_mni", folder, {"copy": lambda low, guide, seeds: guide}, "T2", "T1", "validation"
    )
    assert (figures["lesions"], figures["methods"]) == (2, ["truth", "copy", "zero_filled", "bicubic"])
    small, large = figures["classes"]["up to 15"], figures["classes"]["more than 100"]
    assert (small["lesions"], large["lesions"], figures["classes"]["16 to 100"]) == (1, 1, {"lesions": 0})
    for row in (small, large):
        assert row["copy"] == row["truth"]
        assert row["truth"]["cnr"]["mean"] == pytest.approx(30, rel=0.3)  # 60 over a texture of 2
        assert row["truth"]["volume"]["mean"] == 1
        assert row["truth"]["found"]["mean"] == 1
        assert row["zero_filled"]["cnr"]["mean"] < row["truth"]["cnr"]["mean"] / 2
    assert small["zero_filled"]["volume"]["mean"] == 0, "2 x 2 voxels are lost in a pixel of 4 x 4"
    assert large["zero_filled"]["volume"]["mean"] == pytest.approx(1, abs=0.3)
    assert figures["false_per_slice"]["truth"] < 1
    table = lesion_table(figures)
    assert "2 lesions of patient19" in table
    assert "up to 15 voxels: 1 lesions" in table


def test_without_masks_it_says_so(folder: Path) -> None:
    (folder / "patient19" / "study1_lesions.nii.gz").unlink()
    with pytest.raises(DataError, match="no slice of part validation has a mask of lesions"):
        evaluate_lesions("open_ms_mni", folder, {"copy": lambda low, guide, seeds: guide}, "T2", "T1", "validation")
