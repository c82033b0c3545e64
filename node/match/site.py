"""The rules of the site (`[[match.rules]]`), applied to a stack."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from node.config.site_rules import Condition, ContrastLabel, SiteRule, Value
from node.dicom.attributes import Attributes
from node.match.predicates import expect
from node.verdicts import Predicate


@dataclass(frozen=True)
class Ruling:
    """What follows from the rules that hold for a stack, with a predicate for each rule."""

    contrast: ContrastLabel | None
    role: Literal["target", "reference"] | None
    predicates: tuple[Predicate, ...]


def rules_of(image: Attributes, rules: Sequence[SiteRule]) -> frozenset[str]:
    """The names of the rules that hold for an image."""
    return frozenset(rule.name for rule in rules if all(_holds(condition, image) for condition in rule.when))


def ruling(rules: Sequence[SiteRule], somewhere: frozenset[str], everywhere: frozenset[str]) -> Ruling:
    """What follows for a stack from the names of the rules that hold for some of its slices, and for all of them.

    One slice is enough to veto; overriding takes all slices. Rules that hold together and disagree refuse the stack: none
    has precedence.
    """
    vetoes = [rule for rule in rules if rule.then.veto is not None and rule.name in somewhere]
    overrides = [rule for rule in rules if rule.then.veto is None and rule.name in everywhere]
    contrasts = {rule.then.contrast for rule in overrides} - {None}
    roles = {rule.then.role for rule in overrides} - {None}
    if len(contrasts) > 1 or len(roles) > 1:
        predicates = [_disagreement(overrides)]
        contrasts, roles = set(), set()
    else:
        predicates = [_override(rule) for rule in overrides]
    return Ruling(
        contrast=next(iter(contrasts), None),
        role=next(iter(roles), None),
        predicates=(*(_veto(rule) for rule in vetoes), *predicates),
    )


def _veto(rule: SiteRule) -> Predicate:
    return expect("site rule", False, "", "E_SITE_RULE", f'Rule "{rule.name}": {rule.then.veto}', value=rule.name)


def _override(rule: SiteRule) -> Predicate:
    contrast = [f"the contrast is {rule.then.contrast}"] if rule.then.contrast else []
    role = [f"this is a {rule.then.role}"] if rule.then.role else []
    sentence = f'By rule "{rule.name}" of this site {" and ".join(contrast + role)}, whatever else the header says.'
    return expect("site rule", False, "", "W_SITE_RULE", sentence, value=rule.name)


def _disagreement(rules: Sequence[SiteRule]) -> Predicate:
    names = ", ".join(f'"{rule.name}"' for rule in rules)
    return expect(
        "site rules agree",
        False,
        "",
        "E_SITE_RULES_DISAGREE",
        f"Rules {names} of this site apply together and contradict each other. Narrow one of them.",
        value=", ".join(rule.name for rule in rules),
    )


def _holds(condition: Condition, image: Attributes) -> bool:
    values = image.values_at(condition.location, condition.creator)
    asked = [
        None if condition.exists is None else condition.exists == bool(values),
        None if condition.is_ is None else any(_same(v, condition.is_) for v in values),
        None if condition.is_not is None else not any(_same(v, condition.is_not) for v in values),
        None if condition.contains is None else any(condition.contains.casefold() in v.casefold() for v in values),
        None if condition.matches is None else any(re.search(condition.matches, v, re.IGNORECASE) for v in values),
        None if condition.less is None else any(n < condition.less for v in values for n in _number(v)),
        None if condition.greater is None else any(n > condition.greater for v in values for n in _number(v)),
    ]
    return False not in asked


def _same(value: str, wanted: Value) -> bool:
    if isinstance(wanted, str):
        return value.casefold() == wanted.casefold()
    return wanted in _number(value)


def _number(value: str) -> list[float]:
    try:
        return [float(value)]
    except ValueError:
        return []
