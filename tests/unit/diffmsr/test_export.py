"""`diffmsr export`: a run becomes weights that load, or one line says why not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from diffmsr.cli import app
from diffmsr.inference import SuperResolver
from diffmsr.models.diffmsr import DiffMSRConfig
from diffmsr.train import CHECKPOINT, LOG, Config, Stage, train


@pytest.fixture
def run(mini: DiffMSRConfig, noise_lgg: Path, tmp_path: Path) -> Path:
    """Folder of a run of one step in each stage."""
    stage = Stage(slices=1, learning_rate=1e-3, patch=64, batch=1)
    config = Config(
        preset="mini", data={"lgg": str(noise_lgg)}, share={"lgg": 1.0}, stage_one=stage, stage_two=stage, precision="float32"
    )  # fmt: skip
    train(config, tmp_path / "run")
    return tmp_path / "run"


def export(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    return result.exit_code, result.stderr


@pytest.mark.parametrize("named", ["folder", "checkpoint"])
def test_half_precision_is_half_the_size_and_nearly_the_same_image(run: Path, tmp_path: Path, named: str) -> None:
    source = run if named == "folder" else run / CHECKPOINT
    for dtype in ("float32", "float16"):
        assert export(source, "--output", tmp_path / dtype, "--dtype", dtype)[0] == 0
    whole, half = (tmp_path / dtype / "model.safetensors" for dtype in ("float32", "float16"))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    average = {name: value for name, value in load_file(run / CHECKPOINT).items() if name.startswith("average.")}
    assert all(torch.equal(average[f"average.{name}"], value) for name, value in load_file(whole).items())
    target, reference = np.random.default_rng(0).random((2, 1, 64, 64), np.float32)
    images = [SuperResolver.load(tmp_path / dtype)(target[:, :16, :16], reference, [0]) for dtype in ("float32", "float16")]  # fmt: skip
    assert np.abs(images[0] - images[1]).max() < 0.01
    manifest = json.loads((tmp_path / "float16" / "manifest.json").read_text())
    assert manifest["preset"] == "mini" and manifest["training"]["slices"] == 2


def cut(run: Path) -> None:
    (run / CHECKPOINT).write_bytes((run / CHECKPOINT).read_bytes()[:-100])


def pickled(run: Path) -> None:
    torch.save({"x": torch.zeros(1)}, run / CHECKPOINT)


def of_another_preset(run: Path) -> None:
    record = json.loads((run / LOG).read_text().splitlines()[0])
    record["config"]["preset"] = "tiny"
    (run / LOG).write_text(json.dumps(record) + "\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut, "is not a checkpoint of preset mini"),
        (pickled, "is not a checkpoint of preset mini"),
        (of_another_preset, "it was written with preset mini; give this run another folder"),
        (lambda run: (run / CHECKPOINT).unlink(), f"holds no {CHECKPOINT}"),
        (lambda run: (run / LOG).unlink(), "No such file"),
        (lambda run: (run / LOG).write_text("{}\n"), "holds no configuration"),
        (lambda run: (run / LOG).write_text('{"config": {}}\n'), "data: Field required"),
    ],
    ids=["cut", "pickle", "preset", "no checkpoint", "no log", "no configuration", "half a configuration"],
)
def test_a_damaged_run_is_refused_in_one_line(run: Path, tmp_path: Path, spoil: object, says: str) -> None:
    assert callable(spoil)
    spoil(run)
    code, told = export(run, "--output", tmp_path / "weights")
    assert code == 1 and says in told and told.count("\n") == 1
    assert not (tmp_path / "weights").exists()


def test_weights_too_large_for_half_precision_are_refused(run: Path, tmp_path: Path) -> None:
    from diffmsr.train import TrainingError, export_weights, read_run

    state, config = read_run(run)
    with torch.no_grad():
        next(state.average.parameters()).fill_(1e6)
    with pytest.raises(TrainingError, match="is not finite as float16"):
        export_weights(state, config, tmp_path / "weights", torch.float16)
    assert not (tmp_path / "weights").exists()
