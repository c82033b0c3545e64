"""The workers of one configuration, as threads of the service."""

import threading
import time
from collections.abc import Callable


class Crew:
    """Workers that are hired, and dismissed, together: those of one configuration."""

    def __init__(self) -> None:
        self._dismissed = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, name: str, work: Callable[..., None]) -> None:
        """Have a thread do `work(stop=event)` until the event is set."""
        thread = threading.Thread(target=work, kwargs={"stop": self._dismissed}, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def dismiss(self) -> None:
        """Tell all to end. The caller wakes them."""
        self._dismissed.set()

    def is_alive(self) -> bool:
        """Whether none has died."""
        return all(thread.is_alive() for thread in self._threads)

    def join(self, patience_s: float) -> None:
        """Wait until all have ended, for so long at most."""
        deadline = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
