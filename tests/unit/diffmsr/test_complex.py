"""Complex images from training to evaluation: the network is given real and imaginary part, and keeps the phase."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from diffmsr import kspace
from diffmsr.cli import app
from diffmsr.inference import SuperResolver
from diffmsr.manifest import read_manifest
from diffmsr.models.diffmsr import DiffMSRConfig
from diffmsr.train import Config, Stage, export_weights, train


@pytest.fixture
def knees(tmp_path: Path) -> Path:
    """Two subjects of two complex slices in PD and PD-FS."""
    folder = tmp_path / "knees"
    folder.mkdir()
    for i, subject in enumerate(("a", "b")):
        for j, contrast in enumerate(("PD", "PD-FS")):
            noise = np.random.default_rng([i, j]).random((2, 64, 64))
            phase = np.linspace(0, 3, 64) + i
            with h5py.File(folder / f"{subject}_{contrast}.h5", "w") as file:
                file["image"] = (noise * np.exp(1j * phase)).astype(np.complex64)
    (tmp_path / "split.toml").write_text('[held-out]\nsubjects = ["b"]\n')
    return folder


@pytest.fixture
def weights(knees: Path, mini: DiffMSRConfig, tmp_path: Path) -> Path:
    stage = Stage(slices=2, learning_rate=1e-3, patch=64, batch=1)
    config = Config(
        data={"fastmri": str(knees)}, share={"fastmri": 1.0}, split={"fastmri": tmp_path / "split.toml"},
        stage_one=stage, stage_two=stage, input_kind="complex", preset="mini", precision="float32", validate_every=2,
    )  # fmt: skip
    export_weights(train(config, tmp_path / "run"), config, tmp_path / "weights")
    return tmp_path / "weights"


def test_weights_trained_on_complex_images_keep_the_phase(weights: Path, knees: Path) -> None:
    manifest = read_manifest(weights)
    assert manifest.input_kind == "complex"
    assert [(pair.target, pair.reference) for pair in manifest.trained_pairs] == [("PD-FS", "PD")]
    resolver = SuperResolver.load(weights)
    with h5py.File(knees / "b_PD-FS.h5") as file:
        truth = file["image"][:1]
    low = kspace.crop(torch.from_numpy(truth), 16, 16)
    out = resolver(low.numpy(), np.abs(truth), [0])
    assert out.dtype == np.complex64
    filled = kspace.zero_fill(low, 64, 64).numpy()
    assert np.linalg.norm(out - filled) < 0.2 * np.linalg.norm(filled)  # hardly trained, it is near its start
    turned = resolver(low.numpy() * 1000, np.abs(truth), [0])
    assert np.allclose(turned, 1000 * out, rtol=1e-3, atol=0.1)
    consistent = SuperResolver.load(weights, consistency="full")(low.numpy(), np.abs(truth), [0])
    assert np.allclose(kspace.crop(torch.from_numpy(consistent), 16, 16), low, atol=1e-5)


def test_images_of_the_other_kind_are_refused(weights: Path) -> None:
    resolver, magnitudes = SuperResolver.load(weights), np.ones((1, 16, 16), np.float32)
    with pytest.raises(ValueError, match="takes input of kind complex, not magnitudes"):
        resolver(magnitudes, np.ones((1, 64, 64), np.float32), [0])
    resolver.manifest = replace(resolver.manifest, input_kind="magnitude")
    with pytest.raises(ValueError, match="takes input of kind magnitude, not complex images"):
        resolver(magnitudes + 1j, np.ones((1, 64, 64), np.float32), [0])


def test_they_are_measured_beside_complex_zero_filling(weights: Path, knees: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "--dataset", "fastmri", "--root", str(knees), "--weights", str(weights), "--json"]
    result = CliRunner().invoke(app, [*arguments, "--split-file", str(tmp_path / "split.toml")])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["target"], figures["reference"]) == ("PD-FS", "PD")
    assert [row["patient"] for row in figures["patients"]] == ["b"]
    assert figures["psnr"] == pytest.approx(figures["zero_filled"]["psnr"], abs=1)
