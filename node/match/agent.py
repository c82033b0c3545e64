"""Whether a contrast agent was given: by the attributes of the header, or by words of the series description.

Many sites never fill in ContrastBolusAgent (0018,0010) and name the series instead ("t1_se_tra_KM").
"""

import re

from node.dicom.attributes import Attributes

_NO_AGENT = re.compile(
    r"((no|none|n|nil|not|null|without|ohne|kein|keine|keines|sans|sin|senza|w/o|native?|na|n/a|unknown|anonymi[sz]ed|"
    r"de-?identified|removed|redacted|deleted)\b.*)|-+|\?+|x+|0(\.0*)?",
    re.IGNORECASE,
)
"""Values of ContrastBolusAgent with which technologists, scanners and anonymisers say that there was none, or nothing."""

_WORDS = r"(?:c|km|gd|gad|gado|gadolinium|contrast|kontrast|kontrastmittel|inj|injection)"
_END = r"(?![^\W_])"
_START = r"(?<![^\W_])"

_GIVEN = re.compile(
    rf"\+\s*(?:{_WORDS}|ce){_END}|{_START}(?:c|km|gd)\+(?!\w)|"
    rf"{_START}(?:post|nach|after|with|mit|avec)[\s_.\-]*{_WORDS}{_END}|"
    rf"{_START}(?:gd|gad|gado|gadolinium|km|kontrast|kontrastmittel|mdc|ce|postgd|postgad|postkm|postcontrast|contrast|"
    r"post(?![\s_.\-]*(?:op|fossa|proc))|gadovist|gadobutrol|dotarem|clariscan|prohance|magnevist|multihance|omniscan|"
    rf"elucirem|primovist){_END}",
    re.IGNORECASE,
)
_NOT_GIVEN = re.compile(
    rf"{_START}(?:vor|before|ohne|without|w/o|wo|no|non|not|kein|sans|avant)[\s_.\-]*{_WORDS}{_END}|"
    rf"{_START}(?:pre|native?|nativ|unenhanced|plain|precontrast|pregd|prekm)(?:{_END})|"
    rf"{_START}(?:km|gd|c|contrast)-(?!\w)|{_START}-(?:c|km){_END}",
    re.IGNORECASE,
)


def agent_of(a: Attributes) -> str | None:
    """What in the header says that an agent was given; None when nothing does."""
    named = a.text("ContrastBolusAgent") or ""
    if a.items("ContrastBolusAgentSequence") or (named and not _NO_AGENT.fullmatch(named)):
        return "contrast agent of the header"
    return agent_in(" ".join(a.texts("SeriesDescription")))


def agent_in(description: str) -> str | None:
    """The words of a series description that name a contrast agent, unless others deny it."""
    found = _GIVEN.search(description)
    if found is None or _NOT_GIVEN.search(description):
        return None
    return f'"{found[0].strip(" _")}" in the series description'
