"""Training of a trust map: resuming equals not stopping, what is written can be used, and only for its own weights."""

import hashlib
import json
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from diffmsr.cli import app
from diffmsr.data import Slice, read_slices
from diffmsr.data.lgg import VALIDATION
from diffmsr.inference import SuperResolver
from diffmsr.manifest import (
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Manifest,
    ManifestError,
    TrainedPair,
    baseline_weights_folder,
    read_manifest,
)
from diffmsr.models import PRESETS, build
from diffmsr.models.diffmsr import DiffMSRConfig
from diffmsr.train_trust import fit, read_recipe
from diffmsr.train_trust.corruption import Corruption, corrupted, phantom
from tests.unit.diffmsr.acquisition.heads import head

RECIPE = """
data = {{ lgg = "{data}" }}
share = {{ lgg = 1.0 }}
weights = "{weights}"
calibrate_every = 2
warmup = 0
log_every = 2
[seen]
slices = 6
patch = 64
batch = 2
[fit]
epochs = 1
batch = 2
"""


@pytest.fixture
def weights(tmp_path: Path, mini: DiffMSRConfig) -> Path:
    """A folder with an untrained network: real code, arbitrary numbers."""
    torch.manual_seed(0)
    folder = tmp_path / "weights"
    folder.mkdir()
    path = folder / WEIGHTS_FILE
    save_file({name: tensor.contiguous() for name, tensor in build(PRESETS["mini"]).state_dict().items()}, path)
    facts = {field.name: "" for field in fields(Manifest)} | {
        "name": "untrained", "version": "0", "preset": "mini", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "scale": 4, "input_kind": "magnitude", "grid_offset": 0.0, "normalisation": "slice-max", "consistency": "low",
        "trained_pairs": (TrainedPair("T2", "T1"),), "training": {}, "metrics": {},
    }  # fmt: skip
    Manifest(**facts).write(folder)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def recipe(tmp_path: Path, weights: Path) -> Path:
    """A run on the heads of two patients, one of the validation part."""
    lgg = tmp_path / "heads"
    lgg.mkdir()
    rows = ["file,subject,site,slice,has_t1post"]
    for number in range(8):
        pixels = np.stack([255 * head(number, 96).numpy()] * 3, axis=-1)
        Image.fromarray(pixels.astype(np.uint8)).save(lgg / f"{number}.webp", lossless=True)
        rows.append(f"{number}.webp,{VALIDATION[0] if number % 2 else 'patient'},DU,{number},0")
    (lgg / "manifest.csv").write_text("\n".join(rows) + "\n")
    path = tmp_path / "trust.toml"
    path.write_text(RECIPE.format(data=lgg, weights=weights))
    return path


class _EveryThird:
    """Is set at every third question."""

    def __init__(self) -> None:
        self._asked = 0

    def is_set(self) -> bool:
        self._asked += 1
        return self._asked % 3 == 0


def test_resuming_equals_not_stopping(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_recipe(recipe)
    whole = fit(settings, tmp_path / "whole")
    with monkeypatch.context() as patch:  # a signal at every third question whether to go on
        patch.setattr("diffmsr.train_trust.seen.CHUNK", 2)
        patch.setattr("diffmsr.train_trust.loop.stop_asked", lambda: nullcontext(_EveryThird()))
        stopped = 0
        while (parts := fit(settings, tmp_path / "parts")).steps < settings.steps:
            stopped += 1
    assert stopped > 1
    assert whole.steps == parts.steps == 3
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, parts.network.state_dict()[name]), name


def test_one_command_trains_calibrates_and_writes_what_the_node_uses(
    recipe: Path, weights: Path, tmp_path: Path
) -> None:
    def diffmsr(*arguments: object) -> str:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    diffmsr("train-trust", recipe, "--output", tmp_path / "run", "--export", weights / "trust")
    resolver = SuperResolver.load(weights, trust=True)
    assert resolver.trust is not None and resolver.trust.name.startswith("diffmsr-trust 3 ")
    low, reference = np.ones((1, 16, 16), np.float32), np.ones((1, 64, 64), np.float32)
    restored = resolver.restore(low, reference, [1])
    assert restored.expected_error is not None and restored.expected_error.shape == restored.images.shape
    assert (restored.expected_error > 0).all()
    assert np.array_equal(restored.images, resolver(low, reference, [1]))
    measured = json.loads(diffmsr(
        "trust", "--dataset", "lgg", "--root", tmp_path / "heads", "--weights", weights, "--split", "validation",
        "--acquisition", "clean", "--every", 2, "--json",
    ))  # fmt: skip
    assert set(measured["rows"]) == {"clean", "foreign reference", "reference shifted by 8", "empty reference"}
    assert len(measured["reliability"]) == 10
    clean = measured["rows"]["clean"]
    assert clean["expected"] == pytest.approx(clean["true"], rel=0.5), "on the slices that it was calibrated on"

    manifest, trust = read_manifest(weights), weights / "trust" / MANIFEST_FILE
    trust.write_text(trust.read_text().replace(manifest.sha256, "0" * 64))
    assert SuperResolver.load(weights, trust=True).trust is None, (
        "a trust map of other weights knows nothing about these"
    )
    trust.write_text("{}")
    with pytest.raises(ManifestError, match="not the manifest of a trust network"):
        SuperResolver.load(weights, trust=True)
    assert SuperResolver.load(weights).trust is None, "who does not ask for it does not need it"


def test_weights_without_a_trust_map_work_without_it() -> None:
    resolver = SuperResolver.load(baseline_weights_folder(), trust=True)
    assert resolver.trust is None
    restored = resolver.restore(np.ones((1, 16, 16), np.float32), np.ones((1, 64, 64), np.float32), [1])
    assert restored.expected_error is None


def test_corrupted_slices_fit_their_target_and_differ_where_they_should(noise_lgg: Path) -> None:
    pieces: list[Slice] = read_slices("lgg", noise_lgg)
    rng = np.random.default_rng(0)
    piece = pieces[0]
    none = dict.fromkeys(("foreign", "displaced", "phantom"), 0.0)
    for kind in none:
        made = corrupted(piece, pieces[1:2], rng, Corruption(**none | {kind: 1.0}))
        target, reference = made.images["T2-FLAIR"], made.images["T1"]
        assert target.shape == reference.shape == piece.images["T1"].shape
        assert np.array_equal(target, piece.images["T2-FLAIR"]) == (kind != "phantom")
        assert np.array_equal(reference, pieces[1].images["T1"]) == (kind == "foreign")
        assert not np.array_equal(reference, piece.images["T1"])
    assert corrupted(piece, pieces, rng, Corruption(**none)) is piece
    first, second = phantom((64, 48), rng)
    assert first.shape == second.shape == (64, 48) and min(first.min(), second.min()) >= 0 and first.max() > 0
