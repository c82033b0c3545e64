"""A data set that stands in this file alone is trained on, measured and named in a manifest."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diffmsr.cli import app
from diffmsr.data import DATASETS, DataError, Dataset, Slice, read_slices, register_dataset
from diffmsr.data.split import Members
from diffmsr.manifest import read_manifest
from tests.unit.diffmsr.data.images import phantom


def read_heads(root: Path) -> list[Slice]:
    """Two patients of two slices each."""
    return [
        Slice("heads", name, i, "", {"T2": phantom(64, 64, i), "T1": phantom(64, 64, i + 1)})
        for name in ("a", "b")
        for i in range(2)
    ]


HEADS = Dataset(
    "heads",
    read_heads,
    licence="CC0",
    weights_licence="CC0",
    training_note="heads (CC0), without b",
    split={"held-out": Members(subjects=frozenset({"b"}))},
    quarter_turns=2,
)

CONFIG = """
preset = "cnn"
data = { heads = "somewhere" }
share = { heads = 1.0 }
[stage_one]
slices = 1
patch = 64
batch = 1
"""


@pytest.fixture
def heads() -> Iterator[None]:
    register_dataset(HEADS)
    yield
    del DATASETS["heads"]


def test_a_new_data_set_is_trained_on_and_measured(heads: None, tmp_path: Path) -> None:
    assert {(piece.subject, piece.part) for piece in read_slices("heads", tmp_path)} == {
        ("a", "train"),
        ("b", "held-out"),
    }
    (tmp_path / "train.toml").write_text(CONFIG)
    arguments = [
        "train",
        str(tmp_path / "train.toml"),
        "--output",
        str(tmp_path / "run"),
        "--export",
        str(tmp_path / "w"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    manifest = read_manifest(tmp_path / "w")
    assert (manifest.licence, manifest.training_data) == ("CC0", "heads (CC0), without b")

    arguments = ["evaluate", "--dataset", "heads", "--root", str(tmp_path), "--weights", str(tmp_path / "w"), "--json"]
    result = CliRunner().invoke(app, [*arguments, "--figure", str(tmp_path / "figure.png")])
    assert result.exit_code == 0, result.output
    assert [row["patient"] for row in json.loads(result.stdout)["patients"]] == ["b"]


def test_names_are_known_once(heads: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the data set 'heads' is registered twice"):
        register_dataset(HEADS)
    with pytest.raises(DataError, match=r"unknown data set 'tails'; known data sets are .*heads"):
        read_slices("tails", tmp_path)


def test_every_data_set_states_its_terms() -> None:
    assert {"lgg", "open_ms", "fastmri", "folder"} <= DATASETS.keys()
    assert all(dataset.licence and dataset.weights_licence for dataset in DATASETS.values())
