"""The table of layers in docs/adr/0013 is the contract that import-linter keeps."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_record_has_the_layers_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [
        contract for contract in contracts if contract["type"] == "layers" and contract["containers"] == ["node"]
    ]
    assert layers["exhaustive"] is True
    assert "ignore_imports" not in layers
    record = (ROOT / "docs" / "adr" / "0013-the-house.md").read_text()
    rows = [line.split("|")[1] for line in record.splitlines() if line.startswith("| `")]
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == [
        set(re.split(r"\W+", layer)) for layer in layers["layers"]
    ]
