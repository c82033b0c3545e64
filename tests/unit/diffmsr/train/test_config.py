"""The configuration of a run: a wrong one is refused in one line, and the shipped one has every key."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from diffmsr.acquisition.draw import Mix
from diffmsr.cli import app
from diffmsr.data import Augmentation
from diffmsr.train import CHECKPOINT, Config, Stage, TrainingError, read_config
from tests.unit.diffmsr.train.runs import CONFIGURATION

GOOD = """
data = { lgg = "x" }
share = { lgg = 1.0 }
[stage_one]
slices = 8
learning_rate = 1e-3
[stage_two]
slices = 8
learning_rate = 1e-3
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "Expected '='"),
        (GOOD.replace("[stage_two]", "[stage_too]"), "stage_too"),
        (GOOD.replace("data", "unknown_key = 1\ndata", 1), "unknown_key"),
        (GOOD.replace("data", 'device = "cuda"\ndata', 1), "CUDA is not available here"),
        (GOOD.replace("data", 'device = "abacus"\ndata', 1), "device = 'abacus'"),
        (GOOD.replace("slices = 8", "patch = 66\nslices = 8", 1), "patch = 66 must divide by 4"),
        (GOOD.replace("lgg = 1.0", "lgg = 0.0"), "at least one data set"),
        (GOOD.replace("slices = 8", "slices = 0", 1), "init must name weights"),
        ("keep_initial = 0.2\n" + GOOD, "keep_initial needs init"),
        (GOOD.replace("1e-3", '"fast"', 1), "stage_one.learning_rate"),
        (GOOD.replace("data", 'preset = "giant"\ndata', 1), "unknown preset 'giant'"),
        (GOOD.replace("data", "seed = 20240101\ndata", 1), "seed: Input should be less than"),
        (GOOD.replace("data", "network = { k = 3 }\ndata", 1), "network: k = 3 must divide window"),
        (GOOD.replace("data", "network = { steps = 0 }\ndata", 1), "steps and denoiser_layers must be at least 1"),
        (GOOD.replace("data", "network = { scale = 2 }\ndata", 1), "the up-sampling tail is built for 4"),
        (GOOD + "[augmentation]\ndropout = 1.5\n", "augmentation.dropout: Input should be less than or equal to 1"),
        (GOOD + "[augmentation]\ndropot = 0.5\n", "augmentation.dropot: Unexpected"),
        (GOOD.replace("data", 'split = { open_ms = "x.toml" }\ndata', 1), "split names a data set that data does not"),
        (GOOD.replace("share = { lgg", "share = { open_ms"), "must name the same data sets"),
    ],
)
def test_a_wrong_configuration_is_refused(
    tmp_path: Path, text: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = tmp_path / "train.toml"
    path.write_text(GOOD)
    assert read_config(path).slices == 16
    path.write_text(text)
    with pytest.raises(TrainingError, match=says):
        read_config(path)


def test_the_configuration_that_comes_along_has_every_key_at_its_default() -> None:
    path = Path(__file__).parents[4] / "config" / "train.toml"
    config = read_config(path)
    assert config.stage_two is not None
    stages = {"stage_one": Stage(config.stage_one.slices), "stage_two": Stage(config.stage_two.slices)}
    assert config == Config(data=config.data, share=config.share, acquisitions=Mix(), **stages)
    written = tomllib.loads(path.read_text())
    assert written.keys() | {"init"} == {field.name for field in fields(Config)}
    for table, of in (
        ("stage_one", Stage),
        ("stage_two", Stage),
        ("augmentation", Augmentation),
        ("acquisitions", Mix),
    ):
        assert written[table].keys() == {field.name for field in fields(of)}


def test_command_line_says_what_is_wrong_in_one_line(noise_lgg: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIGURATION.format(data=noise_lgg, batch=1, accumulate=1))
    (tmp_path / CHECKPOINT).write_bytes(b"half a checkpoint")
    result = CliRunner().invoke(app, ["train", str(path), "--output", str(tmp_path)])
    assert result.exit_code == 1 and "is not a checkpoint" in result.stderr and result.stderr.count("\n") == 1
    result = CliRunner().invoke(app, ["evaluate", "--dataset", "lgg", "--root", str(tmp_path)])
    assert result.exit_code == 1
    assert "manifest.csv" in result.stderr and result.stderr.count("\n") == 1
    result = CliRunner().invoke(app, ["train", str(tmp_path / "no.toml"), "--output", str(tmp_path)])
    assert result.exit_code == 1 and "no.toml" in result.stderr
