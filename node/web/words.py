"""How the pages write times, sizes, identifiers and what must not be seen by everybody."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from node.codes import CODES


def local(moment: datetime | None) -> str:
    """Time of day in the zone of the node; with the date when it is not today."""
    if moment is None:
        return "–"
    here, now = moment.astimezone(), datetime.now().astimezone()
    return here.strftime("%H:%M:%S" if here.date() == now.date() else "%Y-%m-%d %H:%M:%S")


def exact(moment: datetime | None) -> str:
    """Date, time and zone."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S ") + zone(moment)


def zone(moment: datetime | None = None) -> str:
    """The zone of the node at a moment, now by default, as UTC+01:00."""
    offset = (moment or datetime.now(UTC)).astimezone().strftime("%z")
    return f"UTC{offset[:3]}:{offset[3:]}" if offset != "+0000" else "UTC"


def ago(moment: datetime | None) -> str:
    """How long ago, or in how long, in the largest unit that fits."""
    if moment is None:
        return ""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    text = duration(abs(seconds))
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 0.4 s, 12 s, 3 min, 2 h, 5 days."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: float | None) -> str:
    """Bytes with a decimal unit."""
    if count is None:
        return "–"
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} bytes"


def short(uid: str | None) -> str:
    """A UID, shortened in the middle."""
    if not uid:
        return "–"
    return uid if len(uid) <= 24 else f"{uid[:10]}…{uid[-11:]}"


def plain(text: Any) -> str:
    """Text of a header or a peer on one line, without control characters."""
    return "".join(c if c.isprintable() else "�" for c in str(text))


def person(name: str | None) -> str:
    """A patient name (PS3.5, VR PN) as people read it: family name, then the others."""
    if not name:
        return "–"
    family, *others = plain(name).split("=")[0].split("^")
    return ", ".join(part for part in (family.strip(), " ".join(o for o in others if o).strip()) if part) or "–"


def date(text: str | None) -> str:
    """A DICOM date as 2026-11-22; anything else as it is."""
    text = plain(text or "")
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text or "–"


def detail(value: Any) -> str:
    """A detail of an audit row: words for yes and no, and a list without its brackets."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(plain, value)) if isinstance(value, list | tuple) else plain(value)


def number(value: Any) -> str:
    """A figure with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else "–" if value is None else plain(value)


def when(moment: datetime | None) -> Markup:
    """A moment with how long ago it was, and the exact time on hovering over it."""
    if moment is None:
        return Markup("–")
    return Markup('<time datetime="{}" title="{}">{} <span class="ago">({})</span></time>').format(
        moment.astimezone(UTC).isoformat(timespec="seconds"), exact(moment), local(moment), ago(moment)
    )


def advice(code: str | None) -> str | None:
    """What a site can do about a code."""
    found = CODES.get(code or "")
    return found.advice if found else None


def escaped(text: str) -> str:
    return str(escape(text))


FILTERS: dict[str, Callable[..., Any]] = {
    "local": local, "exact": exact, "ago": ago, "when": when, "duration": duration, "size": size, "short": short,
    "plain": plain, "detail": detail, "person": person, "date": date, "number": number,
}  # fmt: skip
