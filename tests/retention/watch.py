"""Looks again and again at how much of the volume is free, and at the memory of the service and its infer worker."""

import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

EVERY_S = 0.5


class Watch:
    """Samples until it is left."""

    def __init__(self, volume: Path, pids: Callable[[], list[int]], done: Callable[[], int]) -> None:
        """`pids` are the processes to watch, the service first; `done` is how many studies have come to their end."""
        self._volume, self._pids, self._done = volume, pids, done
        self.least_free = shutil.disk_usage(volume).free
        """Bytes."""
        self.memory: list[tuple[int, list[float]]] = []
        """(studies done, MB of each process)."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def peak(self, first: int, last: int) -> list[float]:
        """The largest memory of each process while so many studies were done, MB."""
        found = [sizes for done, sizes in self.memory if first <= done <= last]
        return [max(sizes) for sizes in zip(*found, strict=False)]

    def _look(self) -> None:
        while not self._over.wait(EVERY_S):
            self.least_free = min(self.least_free, shutil.disk_usage(self._volume).free)
            with suppress(FileNotFoundError, ProcessLookupError):
                self.memory.append((self._done(), [resident_mb(pid) for pid in self._pids()]))


def resident_mb(pid: int) -> float:
    """The resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return float(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))) / 1024
