"""A verdict in plain lines: what `explain` prints, from the JSON that the tracker keeps.

In the order in which it is asked: what was decided, why, what one could do; then every series and every pair with every
question asked of it.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MARKS = {"fail": "FAIL", "warn": "WARN", "pass": "ok"}

DECISIONS = {
    "waiting": "not super-resolved, unless its partner comes",
    "refused": "not super-resolved",
}

ADVICE = {
    # of the study
    "E_NO_REFERENCE": "Acquire or send a reference of the same examination that covers the slices of the target, "
    "without moving the patient in between. If a PACS holds it, configure [fetch]. If it only comes late, lengthen "
    "[completion] study_max_wait_s.",
    "E_NO_TARGET": "Send the low-resolution series that is to be super-resolved. If the study has none, nothing needs "
    "to be done.",
    "E_NO_IMAGES": "Send the images of the study, not only its reports or presentation states.",
    # of a series
    "E_AMBIGUOUS_STACKS": "Send only one of the stacks, or each as a series of its own; or veto all but one by a rule in "
    "[[match.rules]].",
    "E_ATTRIBUTES_MISSING": "Send the series again from the scanner.",
    "E_CONTRAST_NOT_WANTED": "If this contrast is wanted, name it in [match] targets or references, with a model that was "
    "trained for it.",
    "E_CONTRAST_UNKNOWN": "Compare the times of the protocol with the rules of [match.contrast]; where protocols lie just "
    "outside, a site may move the limits.",
    "E_DESCRIPTION_VETO": "Describe the series otherwise, or take the word out of [match] description_vetoes.",
    "E_DUPLICATE_SLICES": "Send repeats and time points as series of their own.",
    "E_INTERPOLATED": "Switch interpolation off in the protocol.",
    "E_IRREGULAR_SPACING": "Send the whole series again; if it was acquired so, it cannot be used.",
    "E_LOSSY": "Send the images as the scanner made them; or set [match] lossy to accept them.",
    "E_MATRIX_ABSURD": "Send the series again from the scanner.",
    "E_MISSING_SLICES": "Send the whole series again.",
    "E_MOSAIC": "Switch mosaic off in the protocol.",
    "E_NO_PIXELS": "Send the series again from the scanner.",
    "E_NOT_MAGNITUDE": "Send the magnitude images.",
    "E_NOT_TRAINED_FOR": "Name weights in [model] path that were trained for this pair of contrasts.",
    "E_SERIES_DAMAGED": "Send the series again from the scanner.",
    "E_SITE_RULES_DISAGREE": "Narrow one of the rules in [[match.rules]], so that they never hold together.",
    "E_SHEARED_STACK": "Send the series as acquired, with straight slices, before any reformatting.",
    "E_TOO_FEW_SLICES": "Send the whole series again, if it is no localizer.",
    "W_FEWER_THAN_ANNOUNCED": "Send the whole series, if images were left out.",
    # of a pair
    "E_FIELD_OF_VIEW": "Give the reference at least the field of view of the target, with the same centre; where only air "
    "is outside, lower [match.pairing] min_coverage, or min_volume_coverage of a volume.",
    "E_FRAME_OF_REFERENCE": "Acquire both series in one session, without a new localizer in between.",
    "E_NOT_PARALLEL": "Plan the reference in the planes of the target, or acquire it in 3-D.",
    "E_OTHER_PATIENT": "Have the records corrected in the PACS.",
    "E_OTHER_STUDY": "Send both series under one study, or have the studies merged in the PACS.",
    "E_PLANES_APART": "Cover the same slices with both series.",
    "E_REFERENCE_COARSE": "Acquire the reference with a finer matrix; or the target with a coarser one, if it is no "
    "low-resolution series.",
    "W_REFERENCE_COARSE": "For finer detail acquire the reference with a finer matrix.",
}
"""What could be done about a code. For the others nothing can: the model was not made for such images."""


def lines(
    verdict: Mapping[str, Any],
    *,
    afterwards: Sequence[str] = (),
    passed: bool = True,
    width: int | None = None,
) -> list[str]:
    """The lines that explain a `StudyVerdict.to_json()`; of the questions asked, those that passed only on request.

    `afterwards` is what the service has done with the study since. With a `width` no line is longer, but for words
    that are. Plain text without colours; the same verdict gives the same lines.
    """
    written = [*_study(verdict), *_list("what became of it", afterwards), *_questions(verdict, passed)]
    return [line for text in written for line in wrapped(text, width)]


def wrapped(text: str, width: int | None) -> list[str]:
    """`text` in lines of at most `width`, those that follow indented below the words of the first."""
    if width is None or len(text) <= width:
        return [text]
    indent = len(text) - len(text.lstrip()) + (6 if text.lstrip().startswith(tuple(MARKS.values())) else 2)
    return textwrap.wrap(
        text,
        max(width, 40),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _study(verdict: Mapping[str, Any]) -> Iterator[str]:
    yield f"Study {verdict['study_uid'] or 'without UID'}: {verdict['outcome']}"
    if verdict["outcome"] == "paired":
        decision, why = verdict["sentence"], list(_merits(verdict))
    else:
        decision, why = f"{DECISIONS[verdict['outcome']]} ({verdict['code']})", [verdict["sentence"]]
    yield from _list("decided", [decision])
    yield from _list("why", why)
    nothing = (
        "Nothing needs to be done."
        if verdict["outcome"] == "paired"
        else "Nothing: the model was not made for such images."
    )
    yield from _list("what you could do", list(_advice(verdict)) or [nothing])
    yield from _list("series found", [f"{s['label']}: {_summary(s)}{_obstacle(s)}" for s in verdict["stacks"]])


def _list(heading: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield ""
        yield f"{heading}:"
        yield from (f"  {item}" for item in items)


def _merits(verdict: Mapping[str, Any]) -> Iterator[str]:
    """What speaks for the pairs that were chosen, and the warnings that go with their results."""
    stacks = {stack["label"]: stack for stack in verdict["stacks"]}
    for target in verdict["targets"]:
        name, reference = target["target"], target["reference"]
        pair = next((p for p in verdict["pairs"] if (p["target"], p["reference"]) == (name, reference)), None)
        if pair is not None:
            asked = [*stacks[name]["predicates"], *stacks[reference]["predicates"], *pair["predicates"]]
            warned = [p for p in asked if p["outcome"] == "warn"]
            doubts = f"; {len(warned)} with a warning:" if warned else "."
            yield f"{name} guided by {reference}: none of the {len(asked)} questions speaks against it{doubts}"
            yield from (f"  {MARKS['warn']}  {p['code']}: {p['sentence']}" for p in warned)
        yield from (f"{name}: {reason}" for reason in target["reasons"])


def _advice(verdict: Mapping[str, Any]) -> Iterator[str]:
    """What could be done about the study's code and about everything that stands between its stacks and a result."""
    pairs = verdict["pairs"]
    chosen = {(t["target"], t["reference"]) for t in verdict["targets"] if t["reference"]}
    served = {target for target, _ in chosen}
    used = {label for pair in chosen for label in pair}
    asked = [p for s in verdict["stacks"] if s["label"] in used or not chosen for p in s["predicates"]]
    asked += [
        p
        for pair in pairs
        if (pair["target"], pair["reference"]) in chosen or pair["target"] not in served
        for p in pair["predicates"]
    ]
    codes = [*(p["code"] for p in asked if p["outcome"] != "pass"), verdict["code"]]
    yield from dict.fromkeys(ADVICE[code] for code in codes if code in ADVICE)


def _questions(verdict: Mapping[str, Any], passed: bool) -> Iterator[str]:
    for stack in verdict["stacks"]:
        yield ""
        yield f"{stack['label']}: {_summary(stack)}"
        yield from _predicates(stack, passed)
    for pair in verdict["pairs"]:
        yield ""
        yield f"{pair['target']} guided by {pair['reference']}: {'fits' if pair['passes'] else 'does not fit'}"
        yield from _predicates(pair, passed)


def _summary(stack: Mapping[str, Any]) -> str:
    role = "not used" if stack["role"] == "neither" else stack["role"]
    slices = "1 slice" if stack["slices"] == 1 else f"{stack['slices']} slices"
    parts = [stack["contrast"] or "contrast unknown", role, slices]
    if stack["rows"] and stack["columns"]:
        parts.append(f"{stack['rows']} x {stack['columns']} pixels")
    if stack["spacing_mm"]:
        parts.append(f"{stack['spacing_mm'][0]:.3g} x {stack['spacing_mm'][1]:.3g} mm")
    if stack["slice_spacing_mm"]:
        parts.append(f"every {stack['slice_spacing_mm']:.3g} mm")
    return ", ".join(parts)


def _obstacle(stack: Mapping[str, Any]) -> str:
    """The first thing that keeps a stack from being used."""
    failed = next((p for p in stack["predicates"] if p["outcome"] == "fail"), None)
    return "" if failed is None else f". {failed['sentence']}"


def _predicates(asked: Mapping[str, Any], passed: bool) -> Iterator[str]:
    """What failed first, then what warns; the rest in the order in which it was asked."""
    for outcome, mark in MARKS.items():
        if outcome != "pass" or passed:
            yield from (f"  {mark:<4}  {_predicate(p)}" for p in asked["predicates"] if p["outcome"] == outcome)


def _predicate(p: Mapping[str, Any]) -> str:
    found = [] if p["value"] is None else [f"found {p['value']}"]
    limit = [] if p["threshold"] is None else [f"limit {p['threshold']}"]
    numbers = f" ({'; '.join(found + limit)})" if found or limit else ""
    code = f"{p['code']}: " if p["code"] else ""
    return f"{p['name']}: {code}{p['sentence']}{numbers}"
