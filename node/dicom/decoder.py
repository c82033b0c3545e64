"""A process of its own that decodes compressed frames: `python -m node.dicom.decoder`, started by `decompression.py`.

It reads requests from standard input, and writes an answer to each to standard output. A request has the options of pydicom's
decoders and a frame; an answer has `shape` and `dtype` of an array and its bytes, or the kind of an `error`.
"""

import resource
import signal
import sys
from typing import Any

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder

from node.dicom.decompression import receive, send

MEMORY = 4 << 30
"""Bytes of addresses. A frame of the largest image that the node accepts needs a fraction of it."""

LAST_RESORT = "gdcm"
"""The plugin that is asked only where no other one decodes a syntax. It has ended the process for one in 40 streams with
flipped bits, also for JPEG-LS and JPEG 2000, for which pydicom would ask it first."""


def main() -> None:
    """Answer until the input ends. The process that started this one decides when; signals to the whole group do not."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (request := receive(sys.stdin.buffer)) is not None:
        head, stream = request
        try:
            frame = _decoded(head["syntax"], head["options"], stream)
            answer, content = {"shape": frame.shape, "dtype": frame.dtype.str}, frame.tobytes()
        except BaseException as error:  # a panic of a decoder written in Rust is not an Exception
            answer, content = {"error": type(error).__name__}, b""
        send(sys.stdout.buffer, answer, content)


def _decoded(syntax: str, options: dict[str, Any], stream: bytes) -> np.ndarray[Any, np.dtype[Any]]:
    decoder = get_decoder(syntax)
    if set(decoder.available_plugins) > {LAST_RESORT}:
        decoder.remove_plugin(LAST_RESORT)
    frame, _ = decoder.as_array(encapsulate([stream]), **options)
    return np.ascontiguousarray(frame)


if __name__ == "__main__":
    main()
