"""Training: resuming equals not stopping, each stage trains its own parts, and bad files are refused in one line."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from diffmsr.acquisition import FEATURES
from diffmsr.acquisition.draw import Mix
from diffmsr.cli import app
from diffmsr.data import Augmentation
from diffmsr.images import as_two_channels, zero_filled_channels
from diffmsr.inference import SuperResolver
from diffmsr.losses import data_consistency_loss, image_loss
from diffmsr.models import PRESETS, Batch
from diffmsr.models.diffmsr import DiffMSRConfig
from diffmsr.train import (
    CHECKPOINT,
    LOG,
    Config,
    Run,
    Stage,
    TrainingError,
    export_weights,
    read_config,
    resume,
    save,
    start,
    train,
)
from diffmsr.train.config import learning_rate
from diffmsr.train.loop import step


@pytest.fixture
def config(mini: DiffMSRConfig, noise_lgg: Path) -> Config:
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


DISTRIBUTED = """
preset = "tiny"
network = {{ channels = 16, blocks = [1], latent = 16, extractor_width = 8, extractor_blocks = 1, tail_width = 4 }}
data = {{ lgg = "{data}" }}
share = {{ lgg = 1.0 }}
accumulate = {accumulate}
precision = "float32"
warmup = 0
log_every = 4
[stage_one]
slices = 12
learning_rate = 1e-4
patch = 64
batch = {batch}
[stage_two]
slices = 12
learning_rate = 1e-4
patch = 64
batch = {batch}
"""


def test_two_processes_that_accumulate_are_one_with_a_larger_batch(noise_lgg: Path, tmp_path: Path) -> None:
    """Through the module that launchers start, in both stages. But for rounding: Adam makes it grow step by step."""
    for name, batch, accumulate in (("alone", 4, 1), ("distributed", 1, 2)):
        text = DISTRIBUTED.format(data=noise_lgg, batch=batch, accumulate=accumulate)
        (tmp_path / f"{name}.toml").write_text(text)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [
        *launch,
        "-m",
        "diffmsr.train",
        str(tmp_path / "distributed.toml"),
        "--output",
        str(tmp_path / "distributed"),
    ]
    started = subprocess.Popen([sys.executable, *command], env={**os.environ, "OMP_NUM_THREADS": "1"})
    config = read_config(tmp_path / "alone.toml")
    alone = train(config, tmp_path / "alone")
    assert started.wait() == 0

    def losses(name: str) -> list[dict[str, float]]:
        records = map(json.loads, (tmp_path / name / LOG).read_text().splitlines())
        return [{key: r[key] for key in ("img", "dc", "diff") if key in r} for r in records if "stage" in r]

    for i, (ours, theirs) in enumerate(zip(losses("alone"), losses("distributed"), strict=True)):
        assert ours == pytest.approx(theirs, rel=1e-4 if i else 1e-6)
    together = resume(config, tmp_path / "distributed")
    before = _flat(start(config))
    assert together.slices == 24
    assert float((_flat(together) - _flat(alone)).norm()) < 0.2 * float((_flat(alone) - before).norm())


def _flat(run: Run) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])


def test_each_stage_trains_its_own_parts(
    config: Config, mini: DiffMSRConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = start(config).model.state_dict()
    monkeypatch.setattr(Config, "slices", property(lambda self: 6))
    one = train(config, tmp_path / "run").model.state_dict()
    monkeypatch.undo()
    monkeypatch.setitem(PRESETS, "mini", mini)
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


@pytest.mark.parametrize(
    "damage", ["truncated", "pickle", "other file", "other preset", "other network", "other stages"]
)
def test_a_bad_checkpoint_is_refused(config: Config, tmp_path: Path, damage: str) -> None:
    run = train(config, tmp_path / "run")
    path = tmp_path / "run" / CHECKPOINT
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "pickle":
        torch.save(run.model.state_dict(), path)
    elif damage == "other stages":
        config = replace(config, stage_one=replace(config.stage_one, slices=100))
    elif damage == "other preset":
        save(start(replace(config, preset="tiny")), tmp_path / "run")
    elif damage == "other network":
        config = replace(config, network={"steps": 3})
    else:
        save_file({"x": torch.zeros(1)}, path, metadata={"stage": "1", "slices": "0", "minutes": "0"})
    with pytest.raises(TrainingError, match="is not a checkpoint of preset mini as configured") as caught:
        resume(config, tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_the_baseline_from_0_1_0_is_continued(config: Config, tmp_path: Path) -> None:
    """It names a field that the baseline no longer has."""
    baseline = replace(config, preset="cnn", stage_two=None)
    save(start(baseline), tmp_path)
    path = tmp_path / CHECKPOINT
    with safe_open(path, "pt") as file:
        progress = file.metadata()
    progress["network"] = json.dumps({**json.loads(progress["network"]), "z_size": 0})
    save_file(load_file(path), path, metadata=progress)
    assert train(baseline, tmp_path).slices == 6


SAVE_FOREVER = """
import sys
from pathlib import Path
from diffmsr.train import read_config, save, start
run = start(read_config(Path(sys.argv[1])))
folder = Path(sys.argv[2])
save(run, folder)
print("saved", flush=True)
while True:
    run.slices += 1
    save(run, folder)
"""


def test_a_process_killed_while_it_saves_leaves_a_whole_checkpoint(noise_lgg: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(DISTRIBUTED.format(data=noise_lgg, batch=1, accumulate=1))
    arguments = [sys.executable, "-c", SAVE_FOREVER, str(path), str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"saved\n"
        while not (tmp_path / f"{CHECKPOINT}.part").exists():
            assert process.poll() is None
        process.kill()
    assert resume(read_config(path), tmp_path).slices >= 0


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(config: Config, tmp_path: Path) -> None:
    """A file may grow to 8 kB here, as on a disk that is nearly full."""
    run = start(config)
    save(run, tmp_path)
    run.slices = 2
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"cannot write checkpoint .*; the previous one stays") as caught:
            save(run, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert resume(config, tmp_path).slices == 0
    assert [path.name for path in tmp_path.glob("checkpoint*")] == [CHECKPOINT]


def test_a_loss_that_is_not_finite_stops_before_the_weights_move(config: Config, tmp_path: Path) -> None:
    train(replace(config, stage_two=None), tmp_path)
    run = resume(config, tmp_path)
    with torch.no_grad():
        run.model.cross_out.bias[0] = torch.nan  # type: ignore[union-attr]
    save(run, tmp_path)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(
        TrainingError, match="the loss of slices 6 to 7 of the run is not finite; the step was not taken"
    ):
        train(config, tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == kept


def test_data_that_are_not_finite_are_said_to_be_so(config: Config) -> None:
    run = start(config)
    before = _flat(run)
    batch = Batch(
        *(torch.full((2, 2, size, size), torch.nan) for size in (16, 64, 64, 64)), (0, 1), torch.zeros(2, FEATURES)
    )
    with pytest.raises(TrainingError, match="the data of slices 0 to 1 of the run is not finite"):
        step(run, config, [batch])
    assert torch.equal(before, _flat(run)) and run.slices == 0


def test_a_run_starts_from_other_weights_where_they_fit(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As stage two on top of another run's stage one, and from exported weights of a network that differs a little."""
    whole = train(config, tmp_path / "whole")
    one = train(replace(config, stage_two=None), tmp_path / "one")
    later = replace(config, stage_one=replace(config.stage_one, slices=0), init=tmp_path / "one")
    two = train(later, tmp_path / "two")
    assert (two.stage, two.slices) == (2, 6)
    for name, tensor in two.model.encoder.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(tensor, one.average.encoder.state_dict()[name])  # type: ignore[union-attr]

    export_weights(whole, config, tmp_path / "weights")
    other = replace(config, init=tmp_path / "weights", network={"condition": False}, stage_two=None)
    began = train(other, tmp_path / "other", minutes=0)
    assert torch.equal(began.model.tail[-1].weight, whole.average.tail[-1].weight)  # type: ignore[union-attr]
    said = capsys.readouterr().err
    assert "not in it, and newly initialised: diffusion.denoiser.layers.0.weight" in said

    (tmp_path / "weights" / "model.safetensors").write_bytes(b"\x80\x04 a pickle")
    for folder, says in ((tmp_path / "weights", "is not a safetensors file"), (tmp_path, "holds neither")):
        with pytest.raises(TrainingError, match=says):
            train(replace(config, init=folder), tmp_path / "never")


def test_stage_two_that_is_not_joint_trains_the_diffusion_alone(config: Config, tmp_path: Path) -> None:
    one = train(replace(config, stage_two=None), tmp_path).average.state_dict()
    two = train(replace(config, joint=False), tmp_path)
    for weights in (two.model.state_dict(), two.average.state_dict()):
        assert {name.split(".")[0] for name in one if not torch.equal(one[name], weights[name])} == {"diffusion"}
    last = json.loads((tmp_path / LOG).read_text().splitlines()[-2])
    assert "diff" in last and "img" not in last


def test_the_baseline_trains_in_one_stage(config: Config, tmp_path: Path) -> None:
    baseline = replace(config, preset="cnn", dc_weight=0.0, stage_two=None, tensorboard=True)
    run = train(baseline, tmp_path / "run")
    assert run.slices == 6 and not torch.equal(_flat(run), _flat(start(baseline)))
    losses = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert [record.keys() & {"img", "dc", "diff"} for record in losses if "stage" in record] == [{"img"}] * 3
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    with pytest.raises(TrainingError, match="as configured trains in one stage: leave stage_two out"):
        train(replace(config, preset="cnn"), tmp_path / "two")


@pytest.mark.parametrize("preset", ["mini", "cnn"])
def test_a_compiled_run_learns_the_same(
    config: Config, tmp_path: Path, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the tracer alone: a machine without C++ compiler has no other."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    config = replace(config, preset=preset, stage_two=config.stage_two if preset == "mini" else None)
    plain, compiled = (train(replace(config, compile=of), tmp_path / str(of)) for of in (False, True))
    assert torch.allclose(_flat(plain), _flat(compiled), atol=1e-6)
    assert resume(replace(config, compile=True), tmp_path / "True").slices == plain.slices


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_later(config: Config, tmp_path: Path) -> None:
    long = replace(config, stage_one=replace(config.stage_one, slices=200_000))

    def ask() -> None:
        log = tmp_path / LOG
        while not log.exists() or '"img"' not in log.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask, daemon=True).start()
    stopped = train(long, tmp_path)
    assert 0 < stopped.slices < 200_000
    assert train(long, tmp_path, minutes=0).slices == resume(long, tmp_path).slices == stopped.slices


def test_the_learning_rate_rises_and_falls_in_each_stage(config: Config) -> None:
    config = replace(config, stage_one=Stage(100, 1e-3), stage_two=Stage(200, 1e-4), warmup=10)
    rates = [learning_rate(config, n) for n in range(300)]
    assert max(rates[:100]) > 0.95e-3 and rates[0] == pytest.approx(1e-4, rel=0.01) and rates[99] < 3e-5
    assert max(rates[100:]) > 0.95e-4 and rates[100] == pytest.approx(1e-5, rel=0.01) and rates[299] < 3e-6


def test_the_papers_schedule_halves_at_its_milestones(config: Config) -> None:
    """Of 500 thousand steps, at 250, 400, 450 and 475 thousand."""
    config = replace(config, stage_one=Stage(500, 2e-4), stage_two=Stage(500, 2e-4), warmup=0, schedule="paper")
    rates = [learning_rate(config, n) / 2e-4 for n in (0, 249, 250, 399, 400, 449, 450, 474, 475, 499, 500)]
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 1]


def test_data_consistency_only_judges_what_was_not_measured() -> None:
    truth = torch.randn(2, 2, 32, 32)
    low = torch.rand(2, 2, 8, 8)
    prediction = zero_filled_channels(low, 4).requires_grad_()
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
    outside = prediction - zero_filled_channels(_crop(prediction), 4)
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
        (GOOD.replace("data", 'device = "cuda"\ndata', 1), "CUDA is not available here"),
        (GOOD.replace("data", 'device = "abacus"\ndata', 1), "device = 'abacus'"),
        (GOOD.replace("slices = 8", "patch = 66\nslices = 8", 1), "patch = 66 must divide by 4"),
        (GOOD.replace("lgg = 1.0", "lgg = 0.0"), "at least one data set"),
        (GOOD.replace("slices = 8", "slices = 0", 1), "init must name weights"),
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
    path = Path(__file__).parents[3] / "config" / "train.toml"
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
    path.write_text(DISTRIBUTED.format(data=noise_lgg, batch=1, accumulate=1))
    (tmp_path / CHECKPOINT).write_bytes(b"half a checkpoint")
    result = CliRunner().invoke(app, ["train", str(path), "--output", str(tmp_path)])
    assert result.exit_code == 1 and "is not a checkpoint" in result.stderr and result.stderr.count("\n") == 1
    result = CliRunner().invoke(app, ["evaluate", "--dataset", "lgg", "--root", str(tmp_path)])
    assert result.exit_code == 1
    assert "manifest.csv" in result.stderr and result.stderr.count("\n") == 1
    result = CliRunner().invoke(app, ["train", str(tmp_path / "no.toml"), "--output", str(tmp_path)])
    assert result.exit_code == 1 and "no.toml" in result.stderr
