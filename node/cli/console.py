"""How commands print: data on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

from rich.console import Console
from rich.markup import escape

from node.web.words import short

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

SHOWN_PLACES = 5  # of the files that were skipped for one reason


def keep_lines_whole() -> None:
    """What reads a pipe gets whole lines, however long."""
    if not out.is_terminal:
        out.width = 100_000


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_lines(lines: Iterable[str]) -> None:
    """Plain text, as it is."""
    for line in lines:
        out.print(escape(line), highlight=False)


def terminal_width() -> int | None:
    """Columns of the terminal; None, for lines of any length, when something else reads them."""
    return out.width if out.is_terminal else None


def print_skipped(skipped: Mapping[str, Sequence[object]]) -> None:
    """What was skipped, by the reason: a count, and the first places."""
    for why, places in skipped.items():
        count = "1 file" if len(places) == 1 else f"{len(places)} files"
        err.print(f"[yellow]skipped[/] {count}: {escape(why)}")
        for where in places[:SHOWN_PLACES]:
            err.print(f"  {escape(str(where))}", highlight=False)
        if len(places) > SHOWN_PLACES:
            err.print(f"  and {len(places) - SHOWN_PLACES} more")


def tolerate_any_terminal() -> None:
    """Let characters that the terminal cannot show become "?", so that no description of a series ends a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars with the time left on stderr, one for each thing that is done, as a function of (what, done, total).
    Nothing is shown when `quiet`, or when stderr is not a terminal."""
    from rich.progress import Progress, TaskID

    with Progress(console=err, disable=quiet or not sys.stderr.isatty(), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(short(what), total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield progress
