"""A run: resuming equals not stopping, each stage trains its own parts, and a run leaves a log and weights."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diffmsr.acquisition import FEATURES
from diffmsr.inference import SuperResolver
from diffmsr.models import PRESETS, Batch
from diffmsr.models.diffmsr import DiffMSRConfig
from diffmsr.train import LOG, Config, TrainingError, export_weights, read_config, resume, sampling, start, train
from diffmsr.train.step import step
from tests.unit.diffmsr.train.runs import CONFIGURATION, flat


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


def test_two_processes_that_accumulate_are_one_with_a_larger_batch(noise_lgg: Path, tmp_path: Path) -> None:
    """Through the module that launchers start, in both stages. But for rounding: Adam makes it grow step by step, to 0.22 of
    the way on a processor with AVX-512. Other samples lead 0.63 of the way apart."""
    for name, batch, accumulate in (("alone", 4, 1), ("distributed", 1, 2)):
        text = CONFIGURATION.format(data=noise_lgg, batch=batch, accumulate=accumulate)
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
    before = flat(start(config))
    assert together.slices == 24
    assert float((flat(together) - flat(alone)).norm()) < 0.35 * float((flat(alone) - before).norm())


def test_a_worker_that_is_killed_ends_training_in_one_line(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the kernel, when memory runs out."""
    monkeypatch.setattr(sampling, "training_sample", lambda *given: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(
        TrainingError, match=r"a process that draws samples ended \(DataLoader worker .*\): is there memory"
    ) as told:
        train(config, tmp_path / "run")
    assert "\n" not in str(told.value)


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
    assert run.slices == 6 and not torch.equal(flat(run), flat(start(baseline)))
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
    assert torch.allclose(flat(plain), flat(compiled), atol=1e-6)
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


def test_a_share_of_the_initial_weights_is_kept_in_the_exported_ones(config: Config, tmp_path: Path) -> None:
    first = train(replace(config, stage_two=None), tmp_path / "first")
    after = replace(config, init=tmp_path / "first", keep_initial=0.25)
    second = train(after, tmp_path / "second")
    manifest = export_weights(second, after, tmp_path / "weights")
    assert manifest.training["started_from"] == "first"
    assert manifest.training["share_of_those"] == "0.25"
    exported = load_file(tmp_path / "weights" / "model.safetensors")
    before, trained = first.average.state_dict(), second.average.state_dict()
    moved = [name for name, value in trained.items() if not torch.equal(value, before[name])]
    assert moved
    for name in moved:
        assert torch.allclose(exported[name], 0.25 * before[name] + 0.75 * trained[name], atol=1e-6), name


def test_data_that_are_not_finite_are_said_to_be_so(config: Config) -> None:
    run = start(config)
    before = flat(run)
    batch = Batch(
        *(torch.full((2, 2, size, size), torch.nan) for size in (16, 64, 64, 64)), (0, 1), torch.zeros(2, FEATURES)
    )
    with pytest.raises(TrainingError, match="the data of slices 0 to 1 of the run is not finite"):
        step(run, config, [batch])
    assert torch.equal(before, flat(run)) and run.slices == 0
