"""Images that the tests of this folder share."""

from pathlib import Path

import nibabel
import numpy as np


def phantom(rows: int = 128, columns: int = 128, seed: int = 0) -> np.ndarray:
    """White noise in an ellipse: every frequency is present."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    noise = np.random.default_rng(seed).random((rows, columns))
    return ((x**2 + y**2 < 0.8) * (0.5 + noise)).astype(np.float32)


def write_nifti(path: Path, pixels: np.ndarray, spacing: float = 1.0, thickness: float = 3.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(pixels.astype(np.float32), np.diag([spacing, spacing, thickness, 1.0])), path)
