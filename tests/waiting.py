"""Waiting for something without a clock: as long as there is progress, and for a generous while without any.

A machine under load is slow, not broken. So no test gives up because of the time that has passed in all; it gives up when
nothing has changed for so long that nothing will.
"""

import time
from collections.abc import Callable
from typing import Any

STUCK_S = 300.0
"""Without any progress for so long, nothing will come. Only a test that fails waits for it."""


def until(condition: Callable[[], Any], what: str, progress: Callable[[], object] = lambda: None) -> Any:
    """Wait until a condition holds; what it returned. `progress` is anything that changes while there is progress."""
    last, since = progress(), time.monotonic()
    while not (found := condition()):
        if (now := progress()) != last:
            last, since = now, time.monotonic()
        assert time.monotonic() - since < STUCK_S, f"{what}: nothing has changed for {STUCK_S:g} s; last: {last}"
        time.sleep(0.05)
    return found
