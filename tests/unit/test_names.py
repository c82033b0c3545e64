"""A name stands for one thing: no two public classes of the packages are called the same, and a field of the log is always the
same kind of value."""

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


def test_an_error_in_the_log_is_a_type_and_a_reason_a_sentence() -> None:
    wrong, fields = [], 0
    for path in sorted(Path(node.__file__ or "").parent.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not ast.unparse(call.func).startswith(
                ("log.", "self._log.", "self.log.")
            ):
                continue
            for keyword in call.keywords:
                is_type = ast.unparse(keyword.value).endswith(".__name__")
                if keyword.arg in ("error", "reason"):
                    fields += 1
                    if is_type != (keyword.arg == "error"):
                        wrong.append(f"{path.name}:{call.lineno}: {ast.unparse(keyword)}")
    assert wrong == []
    assert fields > 30
