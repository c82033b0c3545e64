"""The tables of layers in docs/adr/0013 and docs/architecture.md are the contract that import-linter keeps."""

import re
import tomllib
from pathlib import Path

from tests.unit.layers import PAGE, layers, page

ROOT = Path(__file__).parents[3]


def test_the_record_has_the_layers_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one["type"] == "layers" and one["containers"] == ["node"]]
    assert contract["exhaustive"] is True
    assert "ignore_imports" not in contract
    record = (ROOT / "docs" / "adr" / "0013-the-house.md").read_text()
    table = record.partition("## Who may import whom")[2]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == [set(row) for row in layers()]


def test_the_page_on_the_architecture_has_them_with_the_purpose_of_each_package() -> None:
    assert PAGE.read_text() == page(), "bring it up to date: python -m tests.unit.layers"
