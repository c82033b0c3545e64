"""docs/paper.md and CITATION.cff: the functions exist, and the paper is cited alike everywhere."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PAPER = (ROOT / "docs" / "paper.md").read_text()
ROWS = re.findall(r"^\| ([^|]+) \| `([\w/]+)\.py` \| `([\w.]+)` \|$", PAPER, re.MULTILINE)


@pytest.mark.parametrize(("what", "file", "name"), ROWS)
def test_each_equation_has_its_function(what: str, file: str, name: str) -> None:
    found: object = import_module(f"diffmsr.{file.replace('/', '.')}")
    for part in name.split("."):
        found = getattr(found, part)


def test_every_equation_of_the_paper_is_there() -> None:
    listed = " ".join(what for what, _, _ in ROWS)
    numbers = {int(number) for number in re.findall(r"equations? (\d+)", listed)}
    numbers |= {int(number) for number in re.findall(r"equations \d+ and (\d+)", listed)}
    assert numbers == set(range(1, 11))


def test_the_paper_is_cited_alike() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    readme = (ROOT / "README.md").read_text()
    for text in (PAPER, readme):
        flat = " ".join(text.replace("\n> ", " ").split())
        assert cited["title"] in flat and cited["doi"] in flat
        assert f"{cited['start']}–{cited['end']}" in flat
        assert ", ".join(f"{author['given-names']} {author['family-names']}" for author in cited["authors"]) in flat
