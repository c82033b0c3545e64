"""Who waits for work in this process, and is woken at once when there is some. Work that another process enqueues is found
by the poll."""

import threading
from collections import Counter
from collections.abc import Callable

from node.tracker.states import Kind


class Wakeups:
    """One counter per kind of job. A worker reads the counter before it looks for work, and then waits until it rises:
    so nothing that is enqueued between the two is missed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._counts: Counter[Kind] = Counter()
        self._listeners: list[Callable[[Kind], None]] = []

    def listen(self, listener: Callable[[Kind], None]) -> None:
        """Have a function called with every kind that is woken: a bridge to the workers of another process."""
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
