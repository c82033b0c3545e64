"""Folders of runs that several processes share: each is held by one of them at a time, and files are written whole."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class ElsewhereError(Exception):
    """Another process holds a folder that is needed."""


class OutOfTimeError(Exception):
    """The minutes are over, or a signal asked for a stop."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone. The operating system releases it however the process ends. Raises
    ElsewhereError."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ElsewhereError from None
        yield


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values into a file."""
    replace_text(path, json.dumps(values, indent=2, default=str) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all, even when other processes write it at the same time."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    part.replace(path)
