"""multipart/related (RFC 2387), as DICOMweb sends several objects in one answer."""

import secrets
from collections.abc import Iterable, Iterator

from fastapi.responses import StreamingResponse

Part = tuple[str, bytes]
"""(media type, content)."""


def multipart(media_type: str, parts: Iterable[Part]) -> StreamingResponse:
    """An answer of parts, each read when its turn comes. `media_type` is that of the first, as the standard wants it."""
    boundary = secrets.token_hex(16)
    header = f'multipart/related; type="{media_type.partition(";")[0]}"; boundary={boundary}'
    return StreamingResponse(_body(boundary, parts), media_type=header)


def _body(boundary: str, parts: Iterable[Part]) -> Iterator[bytes]:
    for media_type, content in parts:
        head = f"--{boundary}\r\nContent-Type: {media_type}\r\nContent-Length: {len(content)}\r\n\r\n"
        yield head.encode() + content + b"\r\n"
    yield f"--{boundary}--\r\n".encode()
