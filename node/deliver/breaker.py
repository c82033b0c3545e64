"""A circuit breaker per destination: one that cannot be reached is asked by one delivery at a time, not by all that wait.

Closed, deliveries go out as they are due. After FAILURES attempts in a row that did not reach the destination it is open:
one delivery after each pause tries again, and the others use neither time nor attempts. The first that gets through closes
it, and all that wait are due at once.
"""

import threading
import time
from collections.abc import Callable

from node.config.settings import DestinationSettings
from node.tracker.queue import backoff_s

FAILURES = 3
LONGEST_PAUSE_S = 30.0
"""However long the delays of a destination are: an administrator who has mended it and retries a job does not wait longer."""


class Breaker:
    """Of one destination. The threads that deliver to it share it."""

    def __init__(self, destination: DestinationSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds, and never goes back."""
        self._destination = destination
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next = 0.0

    def wait_s(self) -> float:
        """How long a delivery that is due has to wait; 0 when it may begin. While the breaker is open, each 0 is for one
        delivery alone."""
        with self._lock:
            now = self._clock()
            if self._failures < FAILURES:
                return 0.0
            if now < self._next:
                return self._next - now
            self._next = now + self._pause_s()
            return 0.0

    def failed(self) -> bool:
        """The destination was not reached; True when that opens the breaker."""
        with self._lock:
            self._failures += 1
            self._next = self._clock() + self._pause_s()
            return self._failures == FAILURES

    def reached(self) -> bool:
        """The destination answered; True when that closes the breaker."""
        with self._lock:
            was_open, self._failures = self._failures >= FAILURES, 0
            return was_open

    def _pause_s(self) -> float:
        d = self._destination
        longest = min(d.max_delay_s, LONGEST_PAUSE_S)
        return backoff_s(max(1, self._failures - FAILURES + 1), min(d.initial_delay_s, longest), longest)
