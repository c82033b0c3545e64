"""The shipped weights: what their manifest says is true, and they help a patient they never saw."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from diffmsr.baselines import zero_filled
from diffmsr.data import SCALE, degrade, read_slices
from diffmsr.inference import SuperResolver
from diffmsr.manifest import (
    WEIGHTS_FILE,
    baseline_weights_folder,
    default_weights_folder,
    read_manifest,
    weights_of_package,
)
from diffmsr.metrics import psnr

FOLDERS = [default_weights_folder(), weights_of_package("small-without-diffusion"), baseline_weights_folder()]
SHIPPED = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_all_of_them_are_tested() -> None:
    assert sorted(FOLDERS) == sorted(path.parent for path in default_weights_folder().parent.glob("*/manifest.json"))


@SHIPPED
def test_digest_and_size(folder: Path) -> None:
    weights = (folder / WEIGHTS_FILE).read_bytes()
    manifest = read_manifest(folder)
    assert hashlib.sha256(weights).hexdigest() == manifest.sha256
    assert len(weights) < 16 * 2**20
    assert {(pair.target, pair.reference) for pair in manifest.trained_pairs} >= {("T2", "T1"), ("T2-FLAIR", "T1")}


@SHIPPED
def test_the_model_card_quotes_the_manifest(folder: Path) -> None:
    card = (folder / "MODEL_CARD.md").read_text()
    manifest = read_manifest(folder)
    assert manifest.sha256 in card and manifest.metrics
    for figures in manifest.metrics.values():
        assert f"{figures['psnr']:.2f}" in card and f"{figures['zero_filled']['psnr']:.2f}" in card


@pytest.mark.parametrize("folder", FOLDERS[:2], ids=lambda folder: folder.name)
def test_they_gain_on_an_unseen_patient(shared_data: Path, folder: Path) -> None:
    """T2 of open_ms patient04, guided by T1: at least 0.8 dB over the zero-filled image."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    resolver = SuperResolver.load(folder)
    gains = []
    for piece in [piece for piece in read_slices("open_ms", shared_data / "open_ms") if piece.held_out][5::8]:
        truth, reference = (piece.images[name].astype(np.float32) for name in ("T2", "T1"))
        low = degrade(torch.from_numpy(truth), np.random.default_rng(piece.index)).numpy()[None]
        images = resolver(low, reference[None], [piece.index]), zero_filled(low, SCALE)
        ours, baseline = (psnr(image[0], truth, float(truth.max())) for image in images)
        gains.append(ours - baseline)
    assert np.mean(gains) > 0.8
