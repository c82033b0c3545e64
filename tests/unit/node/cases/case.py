"""A case: a study, and the verdict that is expected of it.

`code` is the code of the study (None: a pair was found). `says` is every code that any of its series or pairs carries. `read`
is the code with which reading the pixels of a pair ends (None: they are read, and are the pixels that were written).
"""

from dataclasses import dataclass, field
from typing import Any

from tests.unit.node.cases import studies as s


@dataclass(frozen=True)
class Case:
    name: str
    build: s.Build | str
    """What writes the study; or the folder of shared/data/vendor_dicom that is one."""
    code: str | None = None
    says: set[str] = field(default_factory=set)
    read: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    """[match] of the configuration."""
    tolerance: float = 0
    """By how much pixels may differ from what was written, where they were compressed with loss."""


def refused_t2(name: str, code: str, build: s.Build, *more: str, **settings: Any) -> Case:
    """A T2 that cannot be used beside a T1 that could."""
    return Case(name, build, "E_NO_TARGET", {code, *more}, settings=settings)
