"""Signals of a process that mostly waits: they end its wait, however long that is."""

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress


class Signals:
    """The handlers of a service, and a wait that each of them ends. Only for the main thread.

    Python runs handlers between two steps of the main thread. The interpreter writes a byte into a pipe when a signal
    comes, so a wait for that pipe misses none, also one that came a moment before.
    """

    def __init__(self, stop: Callable[[], None], reload: Callable[[], None]) -> None:
        """SIGTERM and SIGINT call `stop`, SIGHUP calls `reload`, in the middle of anything: they must not take a lock."""
        self._coming, self._noting = os.pipe()
        for end in (self._coming, self._noting):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._noting, warn_on_full_buffer=False)
        for number, do in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, reload)):
            signal.signal(number, lambda *_, do=do: do())

    def wait(self, seconds: float) -> None:
        """Wait until a signal comes, or as long as that."""
        select.select([self._coming], [], [], seconds)
        with suppress(BlockingIOError):
            while os.read(self._coming, 512):
                pass

    def close(self) -> None:
        """Have no more to do with signals; the handlers stay."""
        signal.set_wakeup_fd(-1)
        os.close(self._coming)
        os.close(self._noting)
