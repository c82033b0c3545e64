"""The harness of Table 1: equal budgets, goes on where it stopped, and a page with what was measured and nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from diffmsr.cli import app
from diffmsr.models import PRESETS
from diffmsr.models.cnn import CNNConfig
from diffmsr.models.peers.discdiff import DisCDiffConfig
from diffmsr.table1 import Plan, read_plan, speed, table1, write_page
from diffmsr.table1.budget import measured_costs, slices_for
from diffmsr.table1.plan import training
from diffmsr.table1.work import COSTS, result_file
from diffmsr.train import CHECKPOINT, LOG, Config, TrainingError
from diffmsr.train.checkpoint import progress_of

ROOT = Path(__file__).parents[3]

PLAN = """
minutes = {minutes}
stage_one_share = 0.5
compared = "DiffMSR"
dataset = "lgg"
split = "held-out"
every = 1
rounds = 1
steps = [1]
[train]
data = {{ lgg = "{data}" }}
share = {{ lgg = 1.0 }}
warmup = 0
ema = 0.0
precision = "float32"
validate_every = 0
acquisitions = {{}}
[train.stage]
learning_rate = 1e-3
patch = 64
batch = 2
[[methods]]
name = "CNN"
preset = "narrow"
source = "the baseline"
scaled = "Narrow."
[[methods]]
name = "Pixels"
preset = "pixels"
source = "Mao et al."
scaled = "Narrow."
published = {{ parameters = 86.1, gflop = 461.0, ms = 1455, psnr = 32.85 }}
[[methods]]
name = "DiffMSR"
preset = "mini"
source = "this project"
scaled = "As it is."
published = {{ parameters = 6.8, gflop = 58.6, ms = 39, psnr = 34.12 }}
"""
SECONDS = {"CNN": [0.25], "Pixels": [0.5], "DiffMSR": [1.0, 0.5]}
"""What a slice costs in these tests, by stage: 8 seconds then pay for 32, 16, and 4 + 8 slices."""


@pytest.fixture
def path(mini: object, noise_lgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan of three small networks."""
    monkeypatch.setitem(PRESETS, "narrow", CNNConfig("narrow", channels=8, blocks=1))
    monkeypatch.setitem(PRESETS, "pixels", DisCDiffConfig("pixels", channels=(8, 8, 8), steps=2))
    monkeypatch.setattr(speed, "SIDE", 16)
    file = tmp_path / "table1.toml"
    file.write_text(PLAN.format(data=noise_lgg, minutes=8 / 60))
    return file


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder whose costs are known."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / COSTS).write_text(json.dumps({"seconds": SECONDS}))
    return folder


def result(output: Path, plan: Plan, method: str) -> Any:
    return json.loads((output / method / result_file(plan)).read_text())


def test_the_same_minutes_for_everyone(path: Path) -> None:
    plan = read_plan(path)
    assert {method.name: slices_for(plan, method, SECONDS) for method in plan.methods} == {
        "CNN": [32], "Pixels": [16], "DiffMSR": [4, 8],
    }  # fmt: skip
    longer = replace(plan, minutes=1.0)
    for method in longer.methods:
        for kept in (None, 4) if method.name == "DiffMSR" else (None,):
            costs, slices = SECONDS[method.name], slices_for(longer, method, SECONDS, kept)
            spent = sum(cost * n for cost, n in zip(costs, slices, strict=True))
            assert 60 - 2 * sum(costs) < spent <= 60


def test_costs_are_measured_of_every_stage_in_turns(path: Path) -> None:
    found = measured_costs(read_plan(path), rounds=2)
    assert {name: len(of) for name, of in found["seconds"].items()} == {"CNN": 1, "Pixels": 1, "DiffMSR": 2}
    assert all(cost > 0 for of in found["seconds"].values() for cost in of)


def test_all_see_the_same(path: Path) -> None:
    plan = read_plan(path)
    common = [training(plan, method, [2, 2][: 1 + (method.name == "DiffMSR")]) for method in plan.methods]
    for config in common:
        assert (config.data, config.seed, config.acquisitions) == (
            common[0].data,
            common[0].seed,
            common[0].acquisitions,
        )
        assert (config.stage_one.patch, config.stage_one.batch) == (64, 2)
    path.write_text(path.read_text().replace('scaled = "As it is."', 'scaled = "As it is."\ntraining = { seed = 4 }'))
    with pytest.raises(TrainingError, match="method 'DiffMSR' must not change seed"):
        read_plan(path)


def test_one_command_trains_stops_goes_on_and_writes_the_page(path: Path, output: Path, tmp_path: Path) -> None:
    page = tmp_path / "table1.md"
    command = ["table1", str(path), "--output", str(output), "--page", str(page)]
    stopped = CliRunner().invoke(app, [*command, "--minutes", "0"])
    assert stopped.exit_code == 0 and "not finished: CNN, Pixels, DiffMSR" in stopped.stderr
    assert (
        "No method has finished yet" in page.read_text() and "Not finished: CNN, Pixels, DiffMSR." in page.read_text()
    )

    alone = CliRunner().invoke(app, [*command, "--only", "CNN"])
    assert alone.exit_code == 0, alone.output
    assert "Not finished: Pixels, DiffMSR." in page.read_text() and "| Pixels | Mao et al. |  |" in page.read_text()

    plan = read_plan(path)
    assert table1(plan, output) == []
    checkpoints = {folder: (output / folder / CHECKPOINT).stat().st_mtime_ns for folder in ("cnn", "pixels", "diffmsr")}
    assert table1(plan, output) == []  # nothing is done twice
    for folder, written in checkpoints.items():
        assert (output / folder / CHECKPOINT).stat().st_mtime_ns == written

    assert "gain_db" not in (output / "cnn" / LOG).read_text()  # validate_every = 0
    write_page(plan, output, page)
    text = page.read_text()
    assert "Not finished" not in text and "2 slices of 2 patients" in text and "0.1 processor minutes" in text
    for name, folder in (("CNN", "cnn"), ("Pixels", "pixels"), ("DiffMSR", "diffmsr")):
        of = [slices[0] for slices in result(output, plan, folder)["patients"].values()]
        for condition in ("clean", "varied"):
            part = text.split(f"## {condition.capitalize()} targets")[1]
            mean = sum(each[condition][name]["psnr"] for each in of) / len(of)
            assert f"| {name} | {mean:.2f} [" in part
    clean = [
        [slices[0]["clean"][name]["psnr"] for slices in result(output, plan, folder)["patients"].values()]
        for name, folder in (("CNN", "cnn"), ("DiffMSR", "diffmsr"))
    ]
    gain = sum(clean[0]) / 2 - sum(clean[1]) / 2
    assert f"{gain:+.2f} [" in next(line for line in text.split("## Clean")[1].splitlines() if line.startswith("| CNN"))
    assert "| -1.27 |" in text  # the publication's difference
    drawn = page.with_name("table1-steps.svg").read_text()
    assert "Pixels" in drawn and "DiffMSR" in drawn and "![" in text


def test_more_minutes_continue_every_run(path: Path, output: Path) -> None:
    plan = read_plan(path)
    assert table1(plan, output, only=["DiffMSR"]) == []
    before = result(output, plan, "diffmsr")
    longer = replace(plan, minutes=2 * plan.minutes)
    assert table1(longer, output, only=["DiffMSR"]) == []
    after = result(output, longer, "diffmsr")
    assert (before["slices"], after["slices"]) == (12, 4 + 24)  # the first stage is over, and keeps its length
    assert before["patients"] != after["patients"]


def test_interrupted_in_the_middle_it_ends_as_if_it_had_not_been(
    path: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = read_plan(path)
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / COSTS).write_bytes((output / COSTS).read_bytes())
    table1(plan, whole, only=["DiffMSR"])
    for stop_at in (2, 6):  # in either stage
        with monkeypatch.context() as patch:
            patch.setattr(Config, "slices", property(lambda config, n=stop_at: n))
            table1(plan, output, only=["DiffMSR"])
        assert progress_of(output / "diffmsr") == (1 + (stop_at > 4), stop_at)
    assert table1(plan, output, only=["DiffMSR"]) == []
    assert result(output, plan, "diffmsr")["patients"] == result(whole, plan, "diffmsr")["patients"]


def test_other_values_need_another_folder(path: Path, output: Path) -> None:
    plan = read_plan(path)
    table1(plan, output, only=["CNN"])
    other = replace(plan, train={**plan.train, "warmup": 4})
    with pytest.raises(TrainingError, match=r"CNN: .* was trained with other values of warmup; use another --output"):
        table1(other, output, only=["CNN"])


def test_a_failed_method_keeps_its_row(path: Path, output: Path, tmp_path: Path) -> None:
    good = path.read_text()
    path.write_text(good.replace('scaled = "Narrow."', 'scaled = "Narrow."\ntraining = { dc_weight = 1e38 }', 1))
    plan = read_plan(path)
    with pytest.raises(TrainingError, match="1 of the methods failed; CNN: the loss of slices 0 to 1"):
        table1(plan, output, only=["Pixels", "CNN"])
    write_page(plan, output, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "CNN failed: the loss of slices 0 to 1" in text and "| CNN | the baseline |  |" in text
    assert "Not finished: DiffMSR." in text


def test_the_page_in_the_documentation_is_of_the_plan() -> None:
    plan = read_plan(ROOT / "config" / "table1.toml")
    text = (ROOT / "docs" / "table1.md").read_text()
    for method in plan.methods:
        assert f"- **{method.name}** ({method.source}): {method.scaled}" in text
        assert PRESETS[method.preset].peer == (method.name not in ("CNN", "DiffMSR"))
    assert {config.name for config in PRESETS.values() if config.peer} < {method.preset for method in plan.methods}
