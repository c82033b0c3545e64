"""Divides patients into parts, such as those to train on and those held out: a TOML or JSON file names them.

    [held-out]
    sites = ["CS"]
    [validation]
    subjects = ["TCGA_DU_5849_19950405"]

Each table is a part, with `subjects`, `sites` or both. Patients that no part names belong to the part `train`, which is
trained on. If the file has a `train` part itself, they belong to none.
"""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diffmsr.data.slices import DataError, Slice


@dataclass(frozen=True)
class Members:
    """Patients of one part."""

    subjects: frozenset[str] = frozenset()
    sites: frozenset[str] = frozenset()


Split = dict[str, Members]
"""Members by part."""


def read_split(path: Path) -> Split:
    """A split from its file. Raises DataError, in one line."""
    try:
        text = path.read_text()
        tables = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return {part: _members(table) for part, table in tables.items()}
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not a split file ({error}); it needs tables such as [held-out] with lists `subjects` or `sites`"
        ) from None


def _members(table: dict[str, list[str]]) -> Members:
    for names in table.values():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError("subjects and sites must be lists of names")
    return Members(**{key: frozenset(names) for key, names in table.items()})


def check_split(slices: Sequence[Slice], split: Split, what: object) -> None:
    """Raise DataError, which names `what`, when the split names a patient or a site that the data set does not hold. A
    patient whose name is misspelt would be trained on."""
    known = {piece.subject for piece in slices} | {piece.site for piece in slices}
    for part, members in split.items():
        if absent := sorted((members.subjects | members.sites) - known):
            raise DataError(f"{what}: [{part}] names {', '.join(absent)}, which the data set does not hold")


def apply_split(slices: Sequence[Slice], split: Split) -> list[Slice]:
    """The slices with their part, without the patients that belong to no part. Raises DataError when the split puts a
    patient into two parts."""
    parts: dict[str, set[str]] = {}
    for piece in slices:
        named = {part for part, of in split.items() if piece.subject in of.subjects or piece.site in of.sites}
        parts.setdefault(piece.subject, set()).update(named or ({""} if "train" in split else {"train"}))
    for subject, where in parts.items():
        if len(where) > 1:
            raise DataError(f"the split puts patient {subject} into {' and '.join(sorted(where))}")
    placed = (replace(piece, part=min(parts[piece.subject])) for piece in slices)
    return [piece for piece in placed if piece.part]
