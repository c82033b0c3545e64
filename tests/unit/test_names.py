"""A name stands for one thing: no two public classes of the packages are called the same."""

import ast
from collections import defaultdict
from pathlib import Path

import diffmsr
import node


def test_no_two_classes_have_one_name() -> None:
    homes = defaultdict(list)
    for package in (node, diffmsr):
        root = Path(package.__file__ or "").parent
        for path in sorted(root.rglob("*.py")):
            for part in ast.parse(path.read_text()).body:
                if isinstance(part, ast.ClassDef) and not part.name.startswith("_"):
                    homes[part.name].append(str(path.relative_to(root.parent)))
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}
