"""How far something is, on the terminal."""

import sys
from collections.abc import Collection, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def followed(items: Collection[Item], what: str, *, between: bool = False) -> Iterator[Item]:
    """The items, one after the other, with a bar and the time left on stderr. Nothing is shown when that is not a terminal. With
    `between` the bar is drawn between two items only, so it takes no time from what is measured."""
    console, shown = Console(stderr=True), sys.stderr.isatty()
    yield from track(
        items, what, console=console, transient=True, disable=not shown, auto_refresh=not between, update_period=0.1
    )
