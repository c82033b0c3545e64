"""Compressed frames, decoded in another process.

The decoders behind pydicom are native code. A damaged stream makes some of them end their process, which would be the one
that receives or shows images. So they run in a process of their own, which this one starts when it needs it, and starts
anew when it has died. What it prints is of no use to anybody, and never reaches the log.
"""

import json
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

PATIENCE_S = 60.0
"""A frame that takes longer is not decoded."""

_guard = threading.Lock()
_process: subprocess.Popen[bytes] | None = None


def decompress(syntax: str, options: dict[str, Any], stream: bytes) -> NDArray[Any]:
    """The stored values of one compressed frame, (rows, columns[, samples]). `options` are those of pydicom's decoders.

    Raises ValueError, which names the kind of the decoder's error, when the frame cannot be decoded.
    """
    with _guard:
        answer = _ask({"syntax": syntax, "options": options}, stream)
    if answer is None:
        raise ValueError("the decoder died of the compressed pixels")
    said, content = answer
    if "error" in said:
        raise ValueError(f"the decoder failed on the compressed pixels ({said['error']})")
    return np.frombuffer(content, said["dtype"]).reshape(said["shape"])


def _ask(head: dict[str, Any], stream: bytes) -> tuple[dict[str, Any], bytes] | None:
    global _process
    if _process is None or _process.poll() is not None:
        _process = subprocess.Popen(
            [sys.executable, "-m", "node.dicom.decoder"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    assert _process.stdin is not None and _process.stdout is not None
    patience = threading.Timer(PATIENCE_S, _process.kill)
    patience.daemon = True
    patience.start()
    try:
        send(_process.stdin, head, stream)
        answer = receive(_process.stdout)
    except OSError:
        answer = None
    finally:
        patience.cancel()
    if answer is None:
        _end(_process)
        _process = None
    return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # of what it did not take any more
                pipe.close()


def send(to: IO[bytes], head: dict[str, Any], content: bytes) -> None:
    """Write a request or an answer: the length of a JSON object (4 bytes, big endian), the object, and what it counts as
    `bytes`. OSError when the other side is gone."""
    encoded = json.dumps(head | {"bytes": len(content)}).encode()
    to.write(len(encoded).to_bytes(4, "big") + encoded)
    to.write(content)
    to.flush()


def receive(from_: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Read what `send` wrote; None when the other side is gone."""
    length = from_.read(4)
    if len(length) < 4:
        return None
    head = from_.read(int.from_bytes(length, "big"))
    try:
        said: dict[str, Any] = json.loads(head)
    except ValueError:
        return None
    content = from_.read(said["bytes"])
    return (said, content) if len(content) == said["bytes"] else None
