"""A verdict in plain lines: what `explain` prints, from the JSON that the tracker keeps."""

from collections.abc import Iterator, Mapping, Set
from typing import Any

MARKS = {"pass": "ok  ", "warn": "WARN", "fail": "FAIL"}


def lines(verdict: Mapping[str, Any], *, passed: bool = True) -> list[str]:
    """The lines that explain a `StudyVerdict.to_json()`: the outcome, every stack and every pair with each predicate,
    those that passed only on request.

    Plain text without colours; the same verdict gives the same lines.
    """
    return list(_lines(verdict, {"pass", "warn", "fail"} if passed else {"warn", "fail"}))


def _lines(verdict: Mapping[str, Any], shown: Set[str]) -> Iterator[str]:
    code = f" {verdict['code']}" if verdict["code"] else ""
    yield f"Study {verdict['study_uid'] or 'without UID'}: {verdict['outcome']}{code}"
    yield f"  {verdict['sentence']}"
    for stack in verdict["stacks"]:
        yield ""
        yield f"{stack['label']}: {_summary(stack)}"
        yield from (_predicate(p) for p in stack["predicates"] if p["outcome"] in shown)
    for pair in verdict["pairs"]:
        yield ""
        yield f"{pair['target']} guided by {pair['reference']}: {'fits' if pair['passes'] else 'does not fit'}"
        yield from (_predicate(p) for p in pair["predicates"] if p["outcome"] in shown)
    for target in verdict["targets"]:
        yield ""
        yield f"{target['target']}: reference {target['reference'] or 'none'}"
        yield from (f"  {reason}" for reason in target["reasons"])


def _summary(stack: Mapping[str, Any]) -> str:
    role = "not used" if stack["role"] == "neither" else stack["role"]
    parts = [stack["contrast"] or "contrast unknown", role, f"{stack['slices']} slices"]
    if stack["rows"] and stack["columns"]:
        parts.append(f"{stack['rows']} x {stack['columns']} pixels")
    if stack["spacing_mm"]:
        parts.append(f"{stack['spacing_mm'][0]:g} x {stack['spacing_mm'][1]:g} mm")
    if stack["slice_spacing_mm"]:
        parts.append(f"every {stack['slice_spacing_mm']:g} mm")
    return ", ".join(parts)


def _predicate(p: Mapping[str, Any]) -> str:
    found = [] if p["value"] is None else [f"found {p['value']}"]
    limit = [] if p["threshold"] is None else [f"limit {p['threshold']}"]
    numbers = f" ({'; '.join(found + limit)})" if found or limit else ""
    code = f"{p['code']}: " if p["code"] else ""
    return f"  {MARKS[p['outcome']]}  {p['name']}: {code}{p['sentence']}{numbers}"
