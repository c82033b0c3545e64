"""The Accept header of a request (RFC 9110 12.5.1), with the parameters that DICOMweb adds (PS3.18 8.7)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastapi import Request
from starlette.exceptions import HTTPException

MULTIPART = "multipart/related"
ANY_SYNTAX = "*"


@dataclass(frozen=True)
class Acceptable:
    """One alternative that a client takes."""

    media_type: str
    transfer_syntax: str
    """Empty where it names none."""
    multipart: bool

    def covers(self, media_type: str, transfer_syntax: str) -> bool:
        """Whether that may be sent."""
        anything = self.media_type in ("*/*", "")
        if self.transfer_syntax not in ("", ANY_SYNTAX, transfer_syntax):
            return False
        if self.media_type == "application/octet-stream" and self.transfer_syntax == ANY_SYNTAX:
            return True  # what clients send that take a frame as it is stored
        kind = self.media_type.removesuffix("/*") if self.media_type.endswith("/*") else None
        return anything or media_type == self.media_type or (kind is not None and media_type.startswith(f"{kind}/"))


def accepted(request: Request) -> list[Acceptable]:
    """The alternatives of a request, in its order. The query parameter `accept` counts first (PS3.18 8.3.3.1)."""
    header = request.query_params.get("accept") or request.headers.get("accept") or "*/*"
    return [_acceptable(alternative) for alternative in _split(header, ",") if alternative.strip()]


def require(request: Request, media_type: str, transfer_syntax: str = "") -> Acceptable:
    """The first alternative that covers what is to be sent. HTTPException 406, with what there is, when none does."""
    for alternative in accepted(request):
        if alternative.covers(media_type, transfer_syntax):
            return alternative
    syntax = f" in transfer syntax {transfer_syntax}" if transfer_syntax else ""
    raise HTTPException(406, f"what is stored is {media_type}{syntax}, which the Accept header excludes")


def choose(request: Request, media_types: Iterable[str]) -> str:
    """Of these media types the one that the client prefers. HTTPException 406 when it takes none."""
    offered = list(media_types)
    for alternative in accepted(request):
        for media_type in offered:
            if alternative.covers(media_type, ""):
                return media_type
    raise HTTPException(406, f"there is {' or '.join(offered)}, which the Accept header excludes")


def _acceptable(text: str) -> Acceptable:
    media_type, *rest = (part.strip() for part in _split(text, ";"))
    parameters = {
        name.strip().lower(): value.strip().strip('"') for name, _, value in (part.partition("=") for part in rest)
    }
    is_multipart = media_type.lower() == MULTIPART
    inner = parameters.get("type", "") if is_multipart else media_type
    return Acceptable(inner.lower(), parameters.get("transfer-syntax", ""), is_multipart)


def _split(text: str, separator: str) -> Iterator[str]:
    """The parts of a header, whose quoted strings may hold the separator."""
    part, quoted = "", False
    for character in text:
        quoted ^= character == '"'
        if character == separator and not quoted:
            yield part
            part = ""
        else:
            part += character
    yield part
