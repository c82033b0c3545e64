"""Reports on a run: a bar on the terminal, a log of JSON lines, TensorBoard."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} slices/s" if task.speed else "")


class Follower:
    """Reports on a run. Of several processes only the first one's reports anything."""

    def __init__(self, log: Any, board: Any, bar: Progress, total: int) -> None:
        self._log, self._board, self._bar = log, board, bar
        self._task = bar.add_task("", total=total)

    def record(self, **values: Any) -> None:
        """Write a line of the log. Numbers go to TensorBoard too, at the record's `slices`."""
        self._log.write(json.dumps(values, default=str) + "\n")
        if self._board is not None:
            for name, value in _scalars(values):
                self._board.add_scalar(name, value, values["slices"])

    def advanced(self, slices: int, stage: int) -> None:
        """Show how many slices the run has seen."""
        self._bar.update(self._task, completed=slices, description=f"stage {stage}")

    def say(self, line: str) -> None:
        """Print a line on the terminal."""
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def following(folder: Path, slices: int, tensorboard: bool = False, first: bool = True) -> Iterator[Follower]:
    """A follower of a run of so many slices in `folder`; a silent one unless this is the first process."""
    console = Console(stderr=True, quiet=not first)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
        console=console,
        disable=not (first and sys.stderr.isatty()),
        speed_estimate_period=120,
    )
    with ExitStack() as stack:
        log = stack.enter_context((folder / LOG if first else Path("/dev/null")).open("a", buffering=1))
        board = None
        if tensorboard and first:
            from torch.utils.tensorboard import SummaryWriter

            board = SummaryWriter(folder / TENSORBOARD)
            stack.callback(board.close)
        yield Follower(log, board, stack.enter_context(bar), slices)


def _scalars(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and name != "config":
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "slices":
            yield prefix + name, float(value)
