"""Splits: a patient is on one side."""

import json
from pathlib import Path

import pytest

from diffmsr.data import DataError, Slice
from diffmsr.data.split import apply_split, check_split, read_split

SLICES = [
    Slice("x", subject, index, "", {}, site)
    for subject, site in (("a", "north"), ("b", "north"), ("c", "south"))
    for index in range(2)
]


def parts(path: Path) -> dict[str, str]:
    return {piece.subject: piece.part for piece in apply_split(SLICES, read_split(path))}


def test_by_site_and_by_patient(tmp_path: Path) -> None:
    path = tmp_path / "split.toml"
    path.write_text('[held-out]\nsites = ["south"]\n[validation]\nsubjects = ["b"]\n')
    assert parts(path) == {"a": "train", "b": "validation", "c": "held-out"}
    path.write_text('[held-out]\nsites = ["south"]\n[train]\nsubjects = ["b"]\n')
    assert parts(path) == {"b": "train", "c": "held-out"}
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"held-out": {"subjects": ["a"]}}))
    assert parts(path) == {"a": "held-out", "b": "train", "c": "train"}


@pytest.mark.parametrize(
    "text",
    [
        '[held-out]\nsites = ["north"]\n[train]\nsubjects = ["a", "c"]',
        '[held-out]\nsubjects = ["a"]\n[train]\nsubjects = ["a"]',
    ],
)
def test_a_patient_on_both_sides_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "split.toml").write_text(text)
    with pytest.raises(DataError, match="the split puts patient a into held-out and train"):
        parts(tmp_path / "split.toml")


@pytest.mark.parametrize(
    "text", ["[held-out", 'held-out = ["a"]', "[held-out]\npatients = []", "[held-out]\nsites = 3"]
)
def test_a_file_that_is_not_a_split_gives_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "split.toml").write_text(text)
    with pytest.raises(DataError, match="not a split file") as caught:
        read_split(tmp_path / "split.toml")
    assert "\n" not in str(caught.value)


def test_a_name_that_nobody_has_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "split.toml"
    path.write_text('[held-out]\nsubjects = ["a"]\nsites = ["south"]\n[validation]\nsubjects = ["bb"]\n')
    with pytest.raises(DataError, match=r"split\.toml: \[validation\] names bb, which the data set does not hold"):
        check_split(SLICES, read_split(path), path)
