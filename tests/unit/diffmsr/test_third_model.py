"""A network that stands in this file alone goes through every command: nothing else knows it by name."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from diffmsr.ablate import TABLE_MARKDOWN
from diffmsr.bench import count
from diffmsr.cli import app
from diffmsr.images import zero_filled_channels
from diffmsr.manifest import default_weights_folder, read_manifest
from diffmsr.models import PRESETS, Model, ModelConfig, register_model
from diffmsr.train import CHECKPOINT, LOG


@dataclass(frozen=True)
class SRCNNConfig(ModelConfig):
    """Channels of the two hidden layers."""

    wide: int = 16
    narrow: int = 8


class SRCNN(Model):
    """Three convolutions (Dong et al. 2014), here of enlarged image and reference together, added to the enlarged image.
    Batch normalisation, which the original does not have, gives it running statistics to keep."""

    def __init__(self, config: SRCNNConfig) -> None:
        super().__init__(config)
        self.layers = nn.Sequential(
            nn.Conv2d(4, config.wide, 9, padding=4),
            nn.BatchNorm2d(config.wide),
            nn.ReLU(),
            nn.Conv2d(config.wide, config.narrow, 1),
            nn.ReLU(),
            nn.Conv2d(config.narrow, 2, 5, padding=2),
        )

    def forward(self, low: Tensor, reference: Tensor, noise: Tensor, skip: Tensor | None = None) -> Tensor:
        enlarged = zero_filled_channels(low, self.config.scale) if skip is None else skip
        detail: Tensor = self.layers(torch.cat([enlarged, reference], dim=1))
        return enlarged + detail


@pytest.fixture
def srcnn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The presets `srcnn` and `srcnn-wide`, for one test."""
    before = dict(PRESETS)
    register_model(SRCNNConfig("srcnn"), SRCNNConfig("srcnn-wide", wide=24))(SRCNN)
    monkeypatch.setattr(count, "PRESETS", {"srcnn": PRESETS["srcnn"]})
    yield
    PRESETS.clear()
    PRESETS.update(before)


def diffmsr(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.stdout


CONFIG = """
preset = "srcnn"
data = {{ lgg = "{data}" }}
share = {{ lgg = 1.0 }}
validate_every = 8
log_every = 4
warmup = 0
[stage_one]
slices = 8
patch = 64
batch = 2
"""


def test_a_new_model_is_trained_exported_measured_and_timed(srcnn: None, noise_lgg: Path, tmp_path: Path) -> None:
    (tmp_path / "train.toml").write_text(CONFIG.format(data=noise_lgg))
    run, weights = tmp_path / "run", tmp_path / "mine"
    diffmsr("train", tmp_path / "train.toml", "--output", run)
    records = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    state = load_file(run / CHECKPOINT)
    assert state["model.layers.1.running_mean"].any()
    assert torch.equal(state["model.layers.1.running_mean"], state["average.layers.1.running_mean"])
    assert {"img", "dc"} <= records[-2].keys() and set(records[-1]["gain_db"]) == {"lgg"}

    diffmsr("export", run / CHECKPOINT, "--output", weights)
    assert read_manifest(weights).preset == "srcnn"
    where = ("evaluate", "--dataset", "lgg", "--root", noise_lgg)
    picture = tmp_path / "figure.png"
    figures = json.loads(diffmsr(*where, "--weights", weights, "--figure", picture, "--json"))
    assert figures["methods"] == ["mine", "cnn", "zero_filled", "bicubic"] and picture.exists()
    half = json.loads(diffmsr(*where, "--weights", weights, "--precision", "bfloat16", "--json"))
    assert half["psnr"] == pytest.approx(figures["psnr"], abs=0.5)

    timed = json.loads(diffmsr("bench", "--preset", "srcnn", "--size", 16, "--batch", 1, "--rounds", 1, "--json"))
    counted = sum(parameter.numel() for parameter in SRCNN(SRCNNConfig("srcnn")).parameters())
    assert timed["counts"][0]["parameters"] * 1e6 == pytest.approx(counted)
    assert timed["inference"][0]["fast"]["median"] > 0 and timed["training"]["product"]["slices_per_second"] > 0


def test_a_new_model_stands_in_an_ablation_and_beside_the_shipped_weights(
    srcnn: None, noise_lgg: Path, tmp_path: Path
) -> None:
    text = "\n".join(
        [
            'dataset = "lgg"',
            'target = "flair"',
            'reference = "t1w"',
            'full = "narrow"',
            "[train]",
            CONFIG.format(data=noise_lgg).replace("[stage_one]", "[train.stage_one]"),
            '[[variants]]\nname = "narrow"\ntable = "Width"',
            '[[variants]]\nname = "wide"\ntable = "Width"\ntraining = { preset = "srcnn-wide" }',
        ]
    )
    (tmp_path / "widths.toml").write_text(text)
    diffmsr("ablate", tmp_path / "widths.toml", "--output", tmp_path / "out")
    assert "| wide |" in (tmp_path / "out" / TABLE_MARKDOWN).read_text()

    weights = tmp_path / "mine"
    diffmsr("export", tmp_path / "out" / "seed-0" / "narrow", "--output", weights)
    shown = diffmsr(
        "evaluate", "--dataset", "lgg", "--root", noise_lgg, "--weights", default_weights_folder(), "--weights", weights
    )
    rows = [line.split()[0] for line in shown.splitlines()[1:]]
    assert rows == ["small", "mine", "cnn", "zero-filled", "bicubic"]


def test_a_name_is_registered_once(srcnn: None) -> None:
    with pytest.raises(ValueError, match="the preset 'srcnn' is registered twice"):
        register_model(SRCNNConfig("srcnn"))(SRCNN)
