"""The table of layers in docs/architecture.md, made from the contract of import-linter and from the packages themselves.

python -m tests.unit.layers        brings the table up to date
"""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
_BEGIN, _END = "<!-- layers -->\n", "<!-- /layers -->\n"


def layers() -> list[list[str]]:
    """The packages of the node, row by row, from top to bottom."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one["type"] == "layers" and one["containers"] == ["node"]]
    return [re.split(r"\W+", layer) for layer in contract["layers"]]


def purpose(name: str) -> str:
    """The first sentence of the docstring of a package or a module of the node."""
    package = ROOT / "node" / name / "__init__.py"
    path = package if package.exists() else ROOT / "node" / f"{name}.py"
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[a-z)])\. ", text)[0].rstrip(".")


def table() -> str:
    lines = ["| layer | package | what it is for |", "| --- | --- | --- |"]
    for number, row in enumerate(layers(), 1):
        lines += [f"| {number} | `{name}` | {purpose(name)} |" for name in row]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page with the table as it should be."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    return f"{before}{_BEGIN}{table()}{_END}{rest.partition(_END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page())
