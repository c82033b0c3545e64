"""Ablations: what variants share, that nothing is done twice, and that the table says what was measured."""

import fcntl
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from diffmsr.ablate import ABLATIONS, TABLE_JSON, TABLE_MARKDOWN, Ablation, Variant, ablate, read_ablation
from diffmsr.ablate.plan import config_of, runs_of
from diffmsr.acquisition.draw import Mix
from diffmsr.cli import app
from diffmsr.train import CHECKPOINT, TrainingError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def ablation(mini: object, noise_lgg: Path) -> Ablation:
    stage = {"slices": 4, "learning_rate": 1e-2, "patch": 64, "batch": 2}
    train: dict[str, Any] = {
        "preset": "mini",
        "data": {"lgg": str(noise_lgg)},
        "share": {"lgg": 1.0},
        "stage_one": stage,
        "stage_two": stage,
        "warmup": 0,
        "ema": 0.0,
    }
    variants = (
        Variant("full", "Table 2", paper=33.78),
        Variant("w/o reference", "Table 2", network={"reference": False}, paper=32.56),
        Variant("w/o prior", "Table 2", network={"prior": False}),
        Variant("T = 8", "Figure 6", network={"steps": 8}),
    )
    return Ablation(train, variants, dataset="lgg", target="T2-FLAIR", reference="T1", full="full")


def test_variants_are_trained_once_and_measured_against_the_full_one(ablation: Ablation, tmp_path: Path) -> None:
    output = tmp_path / "ablation"
    assert len(ablate(ablation, output, "command", minutes=0)) == 4
    assert ablate(ablation, output, "command") == []
    checkpoints = sorted((output / "seed-0").glob(f"*/{CHECKPOINT}"))
    assert [path.parent.name.split("-one-")[0] for path in checkpoints] == [
        "full", "stage", "stage", "t-8", "without-prior", "without-reference",
    ]  # fmt: skip
    before = [path.stat().st_mtime_ns for path in checkpoints]
    assert ablate(ablation, output, "command") == []
    assert [path.stat().st_mtime_ns for path in checkpoints] == before

    rows = {row["variant"]: row for row in json.loads((output / TABLE_JSON).read_text())["rows"]}
    assert list(rows) == [variant.name for variant in ablation.variants]
    assert rows["w/o reference"]["paper_difference"] == pytest.approx(-1.22)
    difference = rows["w/o reference"]["difference"]["psnr"]
    assert difference["mean"] == pytest.approx(rows["w/o reference"]["psnr"] - rows["full"]["psnr"], abs=2e-4)
    assert difference["mean"] != 0
    figures = [
        json.loads((output / "seed-0" / name / "result.json").read_text())["figures"]["patients"]
        for name in ("without-reference", "full")
    ]
    by_patient = sorted(a["psnr"] - b["psnr"] for a, b in zip(*figures, strict=True))
    assert difference["interval"] == pytest.approx(by_patient, abs=2e-4)  # of two patients a resample often holds one
    markdown = (output / TABLE_MARKDOWN).read_text()
    assert "4 + 4 training slices" in markdown and "Not finished" not in markdown
    assert f"{rows['T = 8']['psnr']:.2f}" in markdown.split("## Figure 6")[1]


def test_a_folder_of_another_budget_is_refused(ablation: Ablation, tmp_path: Path) -> None:
    ablate(ablation, tmp_path / "ablation", "command", only=["w/o prior"])
    longer = replace(ablation, train={**ablation.train, "warmup": 2})
    with pytest.raises(TrainingError, match=r"w/o prior: .* was trained with other values of warmup"):
        ablate(longer, tmp_path / "ablation", "command", only=["w/o prior"])


def test_a_variant_that_another_process_holds_is_left_to_it(ablation: Ablation, tmp_path: Path) -> None:
    output = tmp_path / "ablation"
    ablate(ablation, output, "command", only=["w/o prior"], minutes=0)
    with (output / "seed-0" / "without-prior" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert ablate(ablation, output, "command", only=["w/o prior", "full"]) == ["w/o prior (seed 0)"]
    assert ablate(ablation, output, "command", only=["w/o prior"]) == []


def test_the_papers_ablations() -> None:
    ablation = read_ablation(ABLATIONS, Path("somewhere"))
    configs = {variant.name: config_of(ablation, variant, seed=0) for variant in ablation.variants}
    first = {name: runs_of(config, name, Path("home"))[0][0] for name, config in configs.items()}
    sharing = {name for name, folder in first.items() if folder == first["full"]}
    assert sharing == {"full", "w/o joint", "w/o CE", "T = 1", "T = 2", "T = 8", "T = 16", "T = 32"}
    assert len({config.slices for config in configs.values()}) == 1
    assert configs["w/o prior"].stage_two is None and configs["cnn"].stage_two is None
    preset = configs["w/o PLWformer"].architecture
    assert (preset.window // preset.k) ** 2 == (configs["full"].architecture.window // 2) ** 2  # type: ignore[union-attr]


def test_varied_acquisitions_are_measured_too(ablation: Ablation, tmp_path: Path) -> None:
    short = {
        **ablation.train,
        "acquisitions": {"clean": 0.0},
        "stage_one": {**ablation.train["stage_one"], "slices": 2},
    }
    plain = {"prior": False}
    variants = (Variant("full", "Table 2", plain), Variant("blind", "Table 2", plain | {"reference": False}))
    varied = replace(ablation, train=short | {"stage_two": None}, variants=variants, seeds=2)
    assert ablate(varied, tmp_path, "command") == []
    rows = {row["variant"]: row for row in json.loads((tmp_path / TABLE_JSON).read_text())["rows"]}
    gain = rows["blind"]["varied"]["difference"]["psnr"]
    assert rows["blind"]["seeds"] == [0, 1] and gain["interval"][0] <= gain["mean"] <= gain["interval"][1]
    assert gain["mean"] == pytest.approx(rows["blind"]["varied"]["psnr"] - rows["full"]["varied"]["psnr"], abs=2e-4)
    assert rows["blind"]["varied"]["psnr"] != pytest.approx(rows["blind"]["psnr"], abs=1e-3)
    table = (tmp_path / TABLE_MARKDOWN).read_text()
    assert "| varied: PSNR |" in table and f"{gain['mean']:+.2f} [" in table


def test_the_varied_ablations_differ_in_what_they_name_only() -> None:
    ablation = read_ablation(ROOT / "config" / "ablations-varied.toml")
    assert ablation.seeds == 2
    configs = {variant.name: config_of(ablation, variant, seed=0) for variant in ablation.variants}
    assert all(config.acquisitions == Mix() for config in configs.values())
    assert {name for name, config in configs.items() if config.dc_weight != 1e-4} == {"w/o DC", "DC as in the paper"}
    assert len({config.slices for config in configs.values()}) == 1
    assert configs["full"].architecture.live and not configs["prior as PyTorch starts it"].architecture.live  # type: ignore[attr-defined]
    of_paper = {variant.name for variant in read_ablation(ABLATIONS).variants if variant.table != "Not in the paper"}
    assert of_paper <= configs.keys()


def test_wrong_files_are_refused_in_one_line(mini: object, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    good = ABLATIONS.read_text()
    for text, says in (
        (
            good.replace("reference = false", "referenze = false"),
            "variant 'w/o reference': network: preset small has no",
        ),
        (good.replace('name = "w/o CE"', 'name = "w/o DC"'), "two variants have the same name"),
        (good.replace("dc_weight = 0.0", "dc_weight = -1.0", 1), "variant 'w/o DC': dc_weight"),
        (good.replace('full = "full"', 'full = "fool"'), "is not one of the variants"),
    ):
        path.write_text(text)
        result = CliRunner().invoke(app, ["ablate", str(path), "--output", str(tmp_path / "out")])
        assert result.exit_code == 1 and says in result.stderr and result.stderr.count("\n") == 1
