"""Wakes the workers of this process when there is work for them. The poll finds the work that another process enqueues."""

import threading
from collections import Counter
from collections.abc import Callable

from node.tracker.states import Kind


class Wakeups:
    """One counter per kind of job. A worker reads the counter before it looks for work, and then waits until it rises. So it
    misses nothing that is enqueued in between."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._counts: Counter[Kind] = Counter()
        self._listeners: list[Callable[[Kind], None]] = []

    def listen(self, listener: Callable[[Kind], None]) -> None:
        """Call a function with every kind that is woken: a bridge to the workers of another process."""
        self._listeners.append(listener)

    def wake(self, *kinds: Kind) -> None:
        """Wake every worker of these kinds."""
        if kinds:
            with self._condition:
                self._counts.update(kinds)
                self._condition.notify_all()
            for listener in self._listeners:
                for kind in kinds:
                    listener(kind)

    def count(self, kind: Kind) -> int:
        """How often the workers of a kind were woken so far."""
        with self._condition:
            return self._counts[kind]

    def wait(self, kind: Kind, seen: int, seconds: float) -> bool:
        """Wait until the count of a kind differs from `seen`; False when that does not happen within `seconds`."""
        with self._condition:
            return self._condition.wait_for(lambda: self._counts[kind] != seen, seconds)
