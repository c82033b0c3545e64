"""How far a measurement is, on the terminal."""

import sys
from collections.abc import Iterator, Mapping
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def followed(items: Mapping[str, Item], what: str) -> Iterator[tuple[str, Item]]:
    """The items, one after the other, with a bar and the time left on stderr. Nothing is shown when that is no terminal."""
    console = Console(stderr=True)
    yield from track(items.items(), what, console=console, transient=True, disable=not sys.stderr.isatty())
