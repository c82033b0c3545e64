"""Identifiers of derived instances: UIDs that depend on the content, numbers that people sort by.

The same result and headers give the same identifiers on any day and any node, and other content never the same UID
(docs/adr/0002).
"""

import uuid
from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset

from node.dicom.attributes import Attributes
from node.identity import is_ours
from node.payloads import PairRequest, StackRequest

_UID_NAMESPACE = uuid.UUID("3c1f4a0e-52a5-5a4e-9d5c-6c0f2d2b7f11")
"""Our own, so that no other software derives the same identifiers. Never change it: a rerun would be a new series."""

REPORT, PRESENTATION_STATE, REJECTION, TRUST_MAP = 10_000, 20_000, 30_000, 40_000
"""Added to the SeriesNumber of the derived images: series of their own that sort behind all images."""

_STEP = 1000


def derived_uid(*parts: str) -> str:
    """A UID (2.25, PS3.5 B.2) that depends on `parts` and on nothing else."""
    return f"2.25.{uuid.uuid5(_UID_NAMESPACE, chr(31).join(parts)).int}"


def series_number(request: PairRequest, made: Sequence[PairRequest], headers: Iterable[Dataset], offset: int) -> int:
    """SeriesNumber of the derived images of a request: that of its target plus `offset`, raised in steps while it is taken.

    `made` are all requests of the study so far, oldest first. Each keeps its number, whatever comes later, and two stacks
    never share a number, even if they are from one series or from series with the same number. What replaces a series that
    was delivered has a number of its own. `headers` contain at
    least one header of each series of the study. Our own output among them, which may have come back from the PACS, does
    not count: a number must not depend on whether the result was delivered before.
    """
    numbers = {str(header.SeriesInstanceUID): _number(header, "SeriesNumber") or 1 for header in _foreign(headers)}
    taken = set(numbers.values())
    given: list[tuple[PairRequest, int]] = []
    for each in (*made, request):
        stack = each.target
        if any(_same_series(each, other) for other, _ in given):
            continue
        number = offset + numbers.get(stack.series_uid, 1)
        while taken & (claim := {number + more for more in (0, REPORT, PRESENTATION_STATE, REJECTION, TRUST_MAP)}):
            number += _STEP
        taken |= claim
        given.append((each, number))
    return next(number for each, number in given if _same_series(each, request))


def instance_numbers(sources: Sequence[Dataset]) -> list[int]:
    """The sources' own numbers if all of them exist and differ, so that slices sort alike; else 1, 2, …"""
    numbers = [_number(source, "InstanceNumber") or 0 for source in sources]
    if 0 not in numbers and len(set(numbers)) == len(numbers):
        return numbers
    return list(range(1, len(sources) + 1))


def _foreign(headers: Iterable[Dataset]) -> Iterable[Dataset]:
    return (header for header in headers if not is_ours(header))


def _number(header: Dataset, keyword: str) -> int | None:
    """A number that leaves room for what is added to it."""
    number = Attributes(header).count(keyword)
    return number if number is not None and number < 2**31 - 1_000_000 else None


def _same_series(a: PairRequest, b: PairRequest) -> bool:
    """Whether their results are one series to those who receive them."""
    return a.replaces == b.replaces and _same_stack(a.target, b.target)


def _same_stack(a: StackRequest, b: StackRequest) -> bool:
    """Whether they are the same stack, perhaps with slices that arrived later."""
    return a.series_uid == b.series_uid and not _slices(a).isdisjoint(_slices(b))


def _slices(stack: StackRequest) -> set[tuple[str, int]]:
    return set(zip(stack.sop_uids, stack.frames or [0] * len(stack.sop_uids), strict=True))
