"""Training: resuming equals not stopping, each stage trains its own parts, and bad files are refused in one line."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from diffmsr import presets
from diffmsr.cli import app
from diffmsr.data import Augmentation
from diffmsr.images import as_two_channels, zero_filled
from diffmsr.inference import SuperResolver
from diffmsr.losses import data_consistency_loss, image_loss
from diffmsr.train import (
    CHECKPOINT,
    LOG,
    Config,
    Stage,
    TrainingError,
    export_weights,
    read_config,
    resume,
    start,
    train,
)
from diffmsr.train.config import learning_rate


@pytest.fixture
def config(mini: presets.Preset, noise_lgg: Path) -> Config:
    """Two stages of three steps on slices of noise."""
    stage = Stage(slices=6, learning_rate=1e-3, patch=64, batch=2)
    return Config(
        preset="mini",
        data={"lgg": str(noise_lgg)},
        share={"lgg": 1.0},
        stage_one=stage,
        stage_two=stage,
        augmentation=Augmentation(misplacement=0),  # on images of noise, rounding then moves the weights more
        warmup=2,
        precision="float32",
        log_every=2,
        validate_every=6,
    )


@pytest.mark.parametrize("stop_at", [2, 6, 8])
def test_resuming_equals_not_stopping(
    config: Config, tmp_path: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(config, tmp_path / "whole")

    def interrupted(self: Config) -> int:
        return stop_at

    with monkeypatch.context() as patch:
        patch.setattr(Config, "slices", property(interrupted))
        assert train(config, tmp_path / "parts").slices == stop_at
    parts = train(config, tmp_path / "parts")
    assert parts.slices == whole.slices == 12
    for one, other in ((whole.model, parts.model), (whole.average, parts.average)):
        for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(a, b), name


WORKER = """
import sys, json
from pathlib import Path
import torch
from diffmsr import presets, train
torch.set_num_threads(1)
presets.PRESETS["mini"] = presets.Preset(**json.loads(sys.argv[1]))
train.train(train.read_config(Path(sys.argv[2])), Path(sys.argv[3]))
"""


def test_two_processes_are_one_with_twice_the_batch(config: Config, mini: presets.Preset, tmp_path: Path) -> None:
    alone = train(config, tmp_path / "alone").model.state_dict()
    toml = "\n".join(
        [
            'preset = "mini"\nwarmup = 2\nprecision = "float32"\nvalidate_every = 6\nshare = {lgg = 1.0}',
            f'data = {{lgg = "{config.data["lgg"]}"}}',
            *(
                f"[{name}]\nslices = 6\nlearning_rate = 1e-3\npatch = 64\nbatch = 1"
                for name in ("stage_one", "stage_two")
            ),
            "[augmentation]\nmisplacement = 0",
        ]
    )
    (tmp_path / "two.toml").write_text(toml)
    arguments = [json.dumps(asdict(mini)), str(tmp_path / "two.toml"), str(tmp_path / "two")]
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": "2"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments], env={**os.environ, **rendezvous, "RANK": str(rank)}
        )
        for rank in range(2)
    ]
    try:
        assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    together = resume(config, tmp_path / "two")
    assert together.slices == 12

    def flat(state: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([state[name].flatten() for name in alone])

    # Adam blows up the rounding of gradients near zero, so single weights may differ; the path must be the same.
    path, difference = (
        flat(alone) - flat(start(config).model.state_dict()),
        flat(together.model.state_dict()) - flat(alone),
    )
    assert float(difference.norm()) < 0.25 * float(path.norm())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_each_stage_trains_its_own_parts(
    config: Config, mini: presets.Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = start(config).model.state_dict()
    monkeypatch.setattr(Config, "slices", property(lambda self: 6))
    one = train(config, tmp_path / "run").model.state_dict()
    monkeypatch.undo()
    monkeypatch.setitem(presets.PRESETS, "mini", mini)
    two = train(config, tmp_path / "run").model.state_dict()

    def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
        return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}

    assert "encoder" in moved(fresh, one) and "diffusion" not in moved(fresh, one)
    assert {"diffusion", "tail"} <= moved(one, two)


def test_the_average_of_stage_two_starts_from_the_live_weights(config: Config, tmp_path: Path) -> None:
    run = train(config, tmp_path / "run")
    fresh = start(config).model.diffusion.state_dict()
    live, average = run.model.diffusion.state_dict(), run.average.diffusion.state_dict()
    name = "denoiser.layers.0.weight"
    assert (average[name] - live[name]).abs().mean() < 0.7 * (live[name] - fresh[name]).abs().mean()


def test_the_log_can_be_read(config: Config, tmp_path: Path) -> None:
    train(config, tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert records[0]["config"]["preset"] == "mini"
    assert [record["stage"] for record in records if "stage" in record] == [1, 1, 1, 2, 2, 2]
    assert {"img", "dc", "diff"} <= records[-2].keys()
    assert set(records[-1]["gain_db"]) == {"lgg"}


def test_exported_weights_load(config: Config, tmp_path: Path) -> None:
    run = train(config, tmp_path / "run")
    export_weights(run, config, tmp_path / "weights")
    resolver = SuperResolver.load(tmp_path / "weights")
    assert resolver.manifest.training["slices"] == 12
    out = resolver(np.ones((1, 16, 16), np.float32), np.ones((1, 64, 64), np.float32), [0])
    assert out.shape == (1, 64, 64)


@pytest.mark.parametrize("damage", ["truncated", "pickle", "other network"])
def test_a_bad_checkpoint_is_refused(config: Config, tmp_path: Path, damage: str) -> None:
    run = train(config, tmp_path / "run")
    path = tmp_path / "run" / CHECKPOINT
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "pickle":
        torch.save(run.model.state_dict(), path)
    else:
        save_file({"x": torch.zeros(1)}, path, metadata={"stage": "1", "slices": "0", "minutes": "0"})
    with pytest.raises(TrainingError, match="is not a checkpoint of preset mini") as caught:
        resume(config, tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_the_learning_rate_rises_and_falls_in_each_stage(config: Config) -> None:
    config = replace(config, stage_one=Stage(100, 1e-3), stage_two=Stage(200, 1e-4), warmup=10)
    rates = [learning_rate(config, n) for n in range(300)]
    assert max(rates[:100]) > 0.95e-3 and rates[0] == pytest.approx(1e-4, rel=0.01) and rates[99] < 3e-5
    assert max(rates[100:]) > 0.95e-4 and rates[100] == pytest.approx(1e-5, rel=0.01) and rates[299] < 3e-6


def test_data_consistency_only_judges_what_was_not_measured() -> None:
    truth = torch.randn(2, 2, 32, 32)
    low = torch.rand(2, 2, 8, 8)
    prediction = zero_filled(low, 4).requires_grad_()
    data_consistency_loss(prediction, truth, low).backward()
    gradient = prediction.grad
    assert gradient is not None and gradient.abs().max() > 0
    spectrum = torch.fft.fftshift(torch.fft.fft2(torch.complex(gradient[:, 0], gradient[:, 1])), dim=(-2, -1)).abs()
    assert spectrum[:, 12:20, 12:20].max() < 1e-4 * spectrum.max()


def test_losses_by_hand() -> None:
    """Parseval: where nothing was measured, the unnormalised k-space error is the pixel count times the image's."""
    prediction, truth = torch.randn(1, 2, 16, 16), torch.randn(1, 2, 16, 16)
    assert float(image_loss(truth + 0.5, truth)) == pytest.approx(0.5)
    low = as_two_channels(torch.zeros(1, 4, 4))
    loss = float(data_consistency_loss(prediction, torch.zeros_like(truth), low))
    outside = prediction - zero_filled(_crop(prediction), 4)
    assert loss == pytest.approx(256 * float(outside.square().sum(dim=1).mean()), rel=1e-4)


def _crop(image: torch.Tensor) -> torch.Tensor:
    from diffmsr import kspace

    low = kspace.crop(torch.complex(image[:, 0], image[:, 1]), 4, 4)
    return torch.stack([low.real, low.imag], dim=1)


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
        (GOOD.replace("data", 'preset = "giant"\ndata', 1), "unknown preset 'giant'"),
        (GOOD.replace("share = { lgg", "share = { open_ms"), "must name the same data sets"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "train.toml"
    path.write_text(GOOD)
    assert read_config(path).slices == 16
    path.write_text(text)
    with pytest.raises(TrainingError, match=says):
        read_config(path)


def test_command_line_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "--dataset", "lgg", "--root", str(tmp_path)])
    assert result.exit_code == 1
    assert "not a readable LGG folder" in result.stderr and result.stderr.count("\n") == 1
    result = CliRunner().invoke(app, ["train", str(tmp_path / "no.toml"), "--output", str(tmp_path)])
    assert result.exit_code == 1 and "no.toml" in result.stderr
