"""The cut around a brain without skull counts in no figure."""

from pathlib import Path

import nibabel
import numpy as np

from diffmsr.evaluate import evaluate
from diffmsr.evaluate.edges import NOTE

SIDE = 128


def folder_of(folder: Path, patient: str) -> Path:
    """A brain of radius 44; its T1 is the same image, but for the outermost two pixels, which are missing."""
    x, y = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    radius = np.hypot(x, y)
    brain = np.where(radius < 44, 100 + 2 * np.random.default_rng(1).standard_normal((SIDE, SIDE)), 0)[..., None]
    (folder / patient).mkdir()
    for name, volume in (("T2W", brain), ("FLAIR", brain), ("T1W", np.where(radius[..., None] < 42, brain, 0))):
        image = nibabel.Nifti1Image(np.repeat(volume, 3, axis=2).astype(np.float32), np.eye(4))
        nibabel.save(image, folder / patient / f"study1_{name}.nii.gz")
    return folder


def test_figures_leave_out_the_cut(tmp_path: Path) -> None:
    copy = {"copy": lambda low, guide, seeds: guide}
    cut = evaluate("open_ms_mni", folder_of(tmp_path, "patient19"), copy, "T2", "T1", "validation")
    assert cut["nrmse"] == 0
    assert cut["zero_filled"]["nrmse"] > 0
    assert NOTE in cut["notes"]
    whole = evaluate("open_ms", folder_of(tmp_path, "patient04"), copy, "T2", "T1", "held-out")
    assert whole["nrmse"] > 0.1
    assert NOTE not in whole["notes"]
