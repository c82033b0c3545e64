"""Gather the metadata of what the node needs to run, out of the environment that it is installed in:

python deploy/runtime_metadata.py FOLDER [EXTRA ...]

FOLDER gets links to the metadata (PEP 376) of everything that pyproject.toml requires, with these extras, and of everything that
those require in turn. What tests and development need is left out.
"""

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def required(lines: Iterable[str]) -> dict[str, Path]:
    """The folder with metadata of every distribution that these requirements need, by its canonical name. PackageNotFoundError
    when one of them is not installed."""
    found: dict[str, Path] = {}
    seen: set[str] = set()
    waiting = [(line, "") for line in lines]
    while waiting:
        line, extra = waiting.pop()
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras}:
            if f"{name}[{wanted}]" not in seen:
                seen.add(f"{name}[{wanted}]")
                installed = distribution(name)
                found[name] = next(
                    Path(str(installed.locate_file(file))).parent
                    for file in installed.files or ()
                    if file.name == "METADATA" and file.parent.suffix == ".dist-info"
                )
                waiting += [(further, wanted) for further in installed.requires or ()]
    return found


def main(folder: Path, extras: list[str]) -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    for metadata in required(lines).values():
        (folder / metadata.name).symlink_to(metadata.resolve())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
