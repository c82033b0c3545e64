"""Contrasts by the names that people use: `flair`, `T2_FLAIR`, `T1w` and `pdfs` are T2-FLAIR, T1 and PD-FS."""

import re
from collections.abc import Collection

_BASES = {
    "t1": "T1", "t1weighted": "T1", "t1w": "T1",
    "t2": "T2", "t2weighted": "T2", "t2w": "T2",
    "pd": "PD", "pdw": "PD", "pdweighted": "PD", "protondensity": "PD", "protondensityweighted": "PD",
    "flair": "T2-FLAIR", "t2flair": "T2-FLAIR", "flairt2": "T2-FLAIR", "t2wflair": "T2-FLAIR", "flairt2w": "T2-FLAIR",
    "t1flair": "T1-FLAIR", "flairt1": "T1-FLAIR", "t1wflair": "T1-FLAIR",
}  # fmt: skip
"""Contrasts in the node's labels, by their letters and digits."""
_MARKS = (
    ("FS", re.compile(r"^(?:fs|fatsat|fatsup)(.+)$|^(.+?)(?:fs|fatsat|fatsaturated|fatsup|fatsuppressed)$")),
    ("POST", re.compile(r"^(?:ce|gd|post)(.+)$|^(.+?)(?:ce|c|gd|gad|post|postcontrast|postgad|contrastenhanced)$")),
)
"""Before or after the name of a contrast: fat-saturated, and after a contrast agent."""


def contrast_named(text: str) -> str:
    """The contrast that a name means, in the node's labels: T1, T2, T2-FLAIR, PD, with -FS when fat-saturated, and T1-POST
    after a contrast agent. A name that is none of the known spellings is returned as it is."""
    letters = re.sub(r"[^a-z0-9]", "", text.casefold())
    if letters in _BASES:
        return _BASES[letters]
    for suffix, mark in _MARKS:
        if (found := mark.match(letters)) and (base := _BASES.get(found[1] or found[2])):
            return f"{base}-{suffix}"
    return text


def find_contrast(wanted: str, contrasts: Collection[str]) -> str:
    """The one of these contrasts that `wanted` means; `wanted` as a contrast's usual name when none of them is meant."""
    if wanted in contrasts:
        return wanted
    meant = contrast_named(wanted)
    return next((contrast for contrast in sorted(contrasts) if contrast_named(contrast) == meant), meant)
