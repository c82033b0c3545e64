"""Evaluation on folders of a few small slices, whose answer is known from the method that is measured."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from diffmsr import kspace
from diffmsr.baselines import zero_filled
from diffmsr.cli import app
from diffmsr.data import SCALE
from diffmsr.evaluate import Conditions, Method, evaluate, interval, names_of
from diffmsr.evaluate import run as module
from diffmsr.kspace import crop_to
from diffmsr.manifest import baseline_weights_folder, default_weights_folder


@pytest.fixture
def lgg(tmp_path: Path) -> Path:
    """Two held-out patients of three and two slices, and one that is trained on."""
    folder = tmp_path / "lgg"
    folder.mkdir()
    rows = ["file,subject,site,slice,has_t1post"]
    for subject, site, slices in (("a", "CS", (4, 5, 6)), ("b", "CS", (1, 2)), ("c", "DU", (1,))):
        for index in slices:
            rng = np.random.default_rng([ord(subject), index])
            pixels = np.clip(crop_to(rng.normal(110, 60, (3, 96, 96)), 64, 64), 0, 255)
            name = f"{subject}{index}.webp"
            Image.fromarray(np.moveaxis(pixels, 0, -1).astype(np.uint8)).save(folder / name, lossless=True)
            rows.append(f"{name},{subject},{site},{index},0")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


class Recorder:
    """Zero-filling that remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.guides: list[np.ndarray] = []
        self.seeds: list[int] = []

    def __call__(self, low: np.ndarray, guide: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        self.batches.append(len(low))
        self.guides += list(guide)
        self.seeds += list(seeds)
        return zero_filled(low, SCALE)


def measured(root: Path, method: Method, **options: object) -> dict[str, Any]:
    """The figures of one method."""
    return evaluate("lgg", root, {"ours": method}, **options)  # type: ignore[arg-type]


def test_zero_filling_gains_nothing_over_itself(lgg: Path) -> None:
    figures = measured(lgg, Recorder())
    assert (figures["target"], figures["reference"], figures["split"]) == ("T2-FLAIR", "T1", "held-out")
    assert (figures["n_slices"], figures["n_patients"]) == (5, 2)
    assert [(row["patient"], row["site"], row["n_slices"]) for row in figures["patients"]] == [
        ("a", "CS", 3),
        ("b", "CS", 2),
    ]
    for metric in ("psnr", "ssim", "nrmse", "hfen"):
        assert figures[metric] == figures["zero_filled"][metric]
        weighted = sum(row["n_slices"] * row[metric] for row in figures["patients"]) / 5
        assert figures[metric] == pytest.approx(weighted, abs=2e-4)
        assert figures["intervals"]["gains"]["zero_filled"][metric] == {"mean": 0, "interval": [0, 0]}
        low, high = figures["intervals"]["bicubic"][metric]
        assert low <= figures["bicubic"][metric] <= high
    assert json.loads(json.dumps(figures)) == figures


def test_any_number_of_weights_are_compared_with_the_first(lgg: Path) -> None:
    def brighter(low: np.ndarray, guide: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        return 1.1 * zero_filled(low, SCALE)

    figures = evaluate("lgg", lgg, {"ours": Recorder(), "guide": lambda low, guide, seeds: guide, "brighter": brighter})
    assert figures["methods"] == ["ours", "guide", "brighter", "zero_filled", "bicubic"]
    assert figures["guide"]["psnr"] < figures["psnr"] - 2
    gains = figures["intervals"]["gains"]
    assert list(gains) == ["guide", "brighter", "zero_filled", "bicubic"]
    for other in ("guide", "brighter"):
        gain = gains[other]["psnr"]
        assert gain["mean"] == pytest.approx(figures["psnr"] - figures[other]["psnr"], abs=2e-4)
        assert gain["interval"][0] <= gain["mean"] <= gain["interval"][1]
    reversed_order = evaluate("lgg", lgg, {"brighter": brighter, "ours": Recorder()})
    back = reversed_order["intervals"]["gains"]["ours"]["psnr"]
    assert back["mean"] == -gains["brighter"]["psnr"]["mean"]
    assert back["interval"] == [-bound for bound in reversed(gains["brighter"]["psnr"]["interval"])]


def test_weights_are_named_by_their_folder_where_that_is_clear(tmp_path: Path) -> None:
    one, two, odd = (tmp_path / name for name in ("one/mine", "two/mine", "patients"))
    assert names_of([tmp_path / "a", tmp_path / "b"]) == {"a": tmp_path / "a", "b": tmp_path / "b"}
    assert names_of([one, two, odd]) == {str(folder.resolve()): folder for folder in (one, two, odd)}
    assert list(names_of([one, odd, one])) == ["mine", str(odd.resolve())]


def test_the_contrast_is_understood_in_other_spellings(lgg: Path) -> None:
    usual = measured(lgg, Recorder())
    assert measured(lgg, Recorder(), target="flair", reference="t1w") == usual


def test_the_old_option_for_the_baseline_still_works_and_says_what_to_use(lgg: Path) -> None:
    arguments = ["evaluate", "--dataset", "lgg", "--root", str(lgg), "--split", "train", "--json"]
    usual = CliRunner().invoke(app, arguments)
    result = CliRunner().invoke(app, [*arguments, "--cnn", str(baseline_weights_folder())])
    assert result.exit_code == 0 and result.stdout == usual.stdout
    assert "--cnn is deprecated; give these weights with another --weights" in result.stderr


def test_batches_change_nothing(lgg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = Recorder()
    together = measured(lgg, method)
    assert method.batches == [3, 2] and method.seeds == [4, 5, 6, 1, 2]
    monkeypatch.setattr(module, "BATCH", 1)
    assert measured(lgg, Recorder()) == together


def test_the_reference_is_changed_as_asked(lgg: Path) -> None:
    def guides(conditions: Conditions) -> list[np.ndarray]:
        method = Recorder()
        measured(lgg, method, conditions=conditions)
        return method.guides

    plain = guides(Conditions())
    shifted = guides(Conditions(reference_shift=2))
    assert np.allclose(shifted[0][:, 2:], plain[0][:, :-2], atol=0.01)
    assert not np.any(guides(Conditions(without_reference=True)))
    foreign = guides(Conditions(foreign_reference=True))
    assert all(np.array_equal(foreign[i], plain[j]) for i, j in ((0, 3), (1, 3), (2, 4), (3, 0), (4, 1)))


def test_parts_of_a_split(lgg: Path, tmp_path: Path) -> None:
    assert measured(lgg, Recorder(), split="train")["n_slices"] == 1
    assert measured(lgg, Recorder(), split="all")["n_slices"] == 6
    (tmp_path / "split.toml").write_text('[test]\nsubjects = ["b"]\n')
    figures = measured(lgg, Recorder(), split="test", split_file=tmp_path / "split.toml")
    assert [row["patient"] for row in figures["patients"]] == ["b"]
    assert figures["intervals"]["over"] == "slices"


def test_intervals_are_over_patients_and_paired() -> None:
    """Two patients whose figures differ much and whose gains do not."""
    patients = [
        [{"ours": {"psnr": base + 1.0 + noise}, "other": {"psnr": base + noise}} for noise in (-0.1, 0.1)]
        for base in (20.0, 30.0, 40.0)
    ]
    found = interval(patients, "ours")
    assert found["over"] == "patients"
    assert found["gains"]["other"]["psnr"] == {"mean": 1, "interval": [1, 1]}
    low, high = found["psnr"]
    assert 20.9 < low < 26 and 36 < high < 41.1
    assert found == interval(patients, "ours")


def test_command_line_with_shipped_weights_and_figure(lgg: Path, tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    arguments = ["evaluate", "--dataset", "lgg", "--root", str(lgg), "--split", "train", "--figure", str(figure)]
    result = CliRunner().invoke(app, [*arguments, "--json", "--metric", "published"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert {"n_slices", "psnr", "ssim", "zero_filled", "bicubic", "cnn", "patients", "intervals"} <= figures.keys()
    assert "rounded to 8 bits" in figures["definitions"]["images"]
    with Image.open(figure) as image:
        assert image.format == "PNG" and np.asarray(image).std() > 10
    result = CliRunner().invoke(app, arguments)
    assert "1 slices of 1 patients, part train" in result.stdout and "\nsmall " in result.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--target", "PD"], "no held-out slices have PD and T1; the contrasts are T1, T2-FLAIR"),
        (["--split", "test"], "no patient belongs to part test"),
        (["--target", "T1"], "target and reference are both T1; name another one"),
        (["--weights", "nowhere"], "cannot read nowhere"),
        (["--weights", str(default_weights_folder()), "--weights", "nowhere"], "cannot read nowhere"),
        (["--split-file", "nowhere.toml"], "nowhere.toml: not a split file"),
        (["--figure", "nowhere/figure.png"], "cannot write the figure"),
        (["--dataset", "open_ms"], "no patient"),
        (["--dataset", "knees"], "unknown data set 'knees'; known data sets are "),
        (["--device", "cuda:99"], "cannot use device cuda:99"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_one(lgg: Path, change: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", "--dataset", "lgg", "--root", str(lgg), *change])
    assert result.exit_code == 1 and not result.stdout
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_a_subject_zero_filled_by_the_scanner_is_not_quoted(lgg: Path) -> None:
    for path in lgg.glob("b*.webp"):
        with Image.open(path) as image:
            pixels = np.moveaxis(np.asarray(image, dtype=np.float32), -1, 0)
        filled = kspace.zero_fill(torch.from_numpy(crop_to(pixels, 24, 24)), 64, 64).real.clamp(0, 255)
        Image.fromarray(np.moveaxis(filled.numpy(), 0, -1).astype(np.uint8)).save(path, lossless=True)
    figures = measured(lgg, Recorder())
    assert [row["quoted"] for row in figures["patients"]] == [True, False]
    assert figures["n_slices"] == 3 and figures["all_patients"]["n_slices"] == 5
    assert figures["notes"] == []
    for path in lgg.glob("a*.webp"):
        path.unlink()
    manifest = [line for line in (lgg / "manifest.csv").read_text().splitlines() if not line.startswith("a")]
    (lgg / "manifest.csv").write_text("\n".join(manifest))
    figures = measured(lgg, Recorder())
    assert figures["n_slices"] == 2 and "the scanner zero-filled the images of every patient" in figures["notes"][0]


def test_images_too_small_for_the_network_are_one_line(lgg: Path) -> None:
    for path in lgg.glob("*.webp"):
        Image.fromarray(np.full((32, 32, 3), 99, np.uint8)).save(path, lossless=True)
    result = CliRunner().invoke(app, ["evaluate", "--dataset", "lgg", "--root", str(lgg)])
    assert result.exit_code == 1 and result.stderr.startswith("diffmsr: a: an image of 8 x 8 pixels is smaller than")
    for path in lgg.glob("*.webp"):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path, lossless=True)
    result = CliRunner().invoke(app, ["evaluate", "--dataset", "lgg", "--root", str(lgg)])
    assert result.exit_code == 1 and result.stderr == "diffmsr: a, slice 4: T2-FLAIR is empty\n"
