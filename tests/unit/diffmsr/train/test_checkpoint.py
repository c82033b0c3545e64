"""Checkpoints: always whole on the disk, and a bad one is refused in one line."""

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffmsr.train import CHECKPOINT, Config, TrainingError, read_config, resume, save, start, train
from tests.unit.diffmsr.train.runs import CONFIGURATION


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
    path.write_text(CONFIGURATION.format(data=noise_lgg, batch=1, accumulate=1))
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
