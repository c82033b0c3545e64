"""Rules of a site for series with certain attributes: a refusal, or a contrast or role that the headers do not give. Rules
are typed, checked when the configuration is read, and never evaluated as code."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_validator

from node.config.base import Name

if TYPE_CHECKING:
    from pydicom.tag import BaseTag

ContrastLabel = Literal["T1", "T1-FS", "T2", "T2-FS", "T2-FLAIR", "PD", "PD-FS", "STIR"]
Value = StrictStr | StrictInt | StrictFloat

_NUMBERS = re.compile(r"\(([0-9A-Fa-f]{4}),\s*([0-9A-Fa-f]{4})\)")
_PIXELS = 0x7FE0  # this group is not read


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Condition(_Part):
    """Comparisons of one attribute, all of which must hold. Text is compared without regard to case. When an attribute has
    several values, one that fits is enough."""

    tag: str
    """A keyword of PS3.6, or "(gggg,eeee)"."""
    creator: str | None = None
    """Private creator. The element is then counted within its block, wherever the scanner put the block."""
    exists: bool | None = None
    is_: Value | None = Field(None, alias="is")
    is_not: Value | None = None
    contains: Annotated[str, Field(min_length=1)] | None = None
    matches: str | None = None
    less: StrictInt | StrictFloat | None = None
    greater: StrictInt | StrictFloat | None = None

    @property
    def location(self) -> "BaseTag":
        """The attribute's tag; of a private one with a creator, the element is its offset in the block."""
        from pydicom.datadict import tag_for_keyword
        from pydicom.tag import Tag

        numbers = _NUMBERS.fullmatch(self.tag)
        if numbers:
            return Tag(int(numbers[1], 16), int(numbers[2], 16))
        known = tag_for_keyword(self.tag)
        if known is None:
            raise ValueError(f'no attribute is called "{self.tag}"; give a keyword of PS3.6, or "(gggg,eeee)"')
        return Tag(known)

    def mistakes(self) -> Iterator[str]:
        """Why this condition cannot be applied."""
        try:
            location = self.location
        except ValueError as error:
            yield str(error)
            return
        if location.group == _PIXELS:
            yield f"{self.tag}: pixels are not read for matching"
        if self.creator is not None and not location.is_private:
            yield f"{self.tag}: only private attributes, of an odd group, have a creator"
        asked = {name for name in type(self).model_fields if name not in {"tag", "creator"}} & self.model_fields_set
        if not asked:
            yield f"{self.tag}: no comparison is given; give exists, is, is_not, contains, matches, less or greater"
        if _vr(location) == "SQ" and asked - {"exists"}:
            yield f"{self.tag} is a sequence: only exists can be given for it"
        if self.exists is False and asked - {"exists"}:
            yield f"{self.tag}: a missing attribute has no value to compare"
        if self.matches is not None:
            try:
                re.compile(self.matches)
            except re.error as error:
                yield f"{self.tag}: matches is not a regular expression: {error}"


class Consequence(_Part):
    """What follows for a stack for which a rule holds: a refusal, or a contrast or role."""

    veto: Annotated[str, Field(min_length=1)] | None = None
    """The sentence of the refusal."""
    contrast: ContrastLabel | None = None
    role: Literal["target", "reference"] | None = None


class SiteRule(_Part):
    name: Name
    when: Annotated[list[Condition], Field(min_length=1)]
    """All of these hold."""
    then: Consequence

    @model_validator(mode="after")
    def _can_be_applied(self) -> Self:
        mistakes = [mistake for condition in self.when for mistake in condition.mistakes()]
        if not mistakes:
            mistakes = [*self._contradictions(), *self._idle()]
        if mistakes:
            raise ValueError("; ".join(f'rule "{self.name}": {mistake}' for mistake in mistakes))
        return self

    def _idle(self) -> Iterator[str]:
        said = self.then.model_fields_set
        if not said:
            yield "then is empty; give veto, contrast or role"
        if "veto" in said and said - {"veto"}:
            yield "a vetoed series has no contrast and no role; give veto alone"

    def _contradictions(self) -> Iterator[str]:
        """Comparisons of one attribute that cannot all hold. An attribute with several values can satisfy two at once."""
        by_place: dict[tuple[BaseTag, str | None], list[Condition]] = {}
        for condition in self.when:
            by_place.setdefault((condition.location, condition.creator), []).append(condition)
        for (location, _), asked in by_place.items():
            tag = asked[0].tag
            if any(c.exists is False for c in asked) and len(asked) > 1:
                yield f"{tag} cannot be missing and have a value"
            wanted = {_folded(c.is_) for c in asked if c.is_ is not None}
            if wanted & {_folded(c.is_not) for c in asked if c.is_not is not None}:
                yield f"{tag} cannot be and not be the same"
            if _several_values(location):
                continue
            if len(wanted) > 1:
                yield f"{tag} cannot be {len(wanted)} things at once"
            least = max((c.greater for c in asked if c.greater is not None), default=None)
            most = min((c.less for c in asked if c.less is not None), default=None)
            if least is not None and most is not None and least >= most:
                yield f"{tag} cannot be greater than {least:g} and less than {most:g}"


def contradictions(rules: list[SiteRule]) -> Iterator[str]:
    """Rules that cannot be used together."""
    for i, rule in enumerate(rules):
        for other in rules[:i]:
            if rule.name == other.name:
                yield f'two rules are called "{rule.name}"; names must differ'
            elif {c.model_dump_json() for c in rule.when} == {c.model_dump_json() for c in other.when}:
                yield f'rules "{other.name}" and "{rule.name}" have the same conditions; merge them'


def _folded(value: Value | None) -> str | float | None:
    return value.casefold() if isinstance(value, str) else value


def _vr(location: "BaseTag") -> str:
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    return "" if location.is_private or not dictionary_has_tag(location) else dictionary_VR(location)


def _several_values(location: "BaseTag") -> bool:
    from pydicom.datadict import dictionary_has_tag, dictionary_VM

    return not location.is_private and dictionary_has_tag(location) and dictionary_VM(location) != "1"
