"""What can happen to a service: by signals, as the kernel, an administrator or a power cut would."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.acceptance.conftest import Site

Fault = Callable[[Site, random.Random], None]
"""Does its damage, and leaves a service that runs."""


def all_killed(site: Site, chance: random.Random) -> None:
    """Power off: the service and its infer worker die together."""
    _kill_all(site)
    site.start()


def service_killed(site: Site, chance: random.Random) -> None:
    """The service dies alone. Its infer worker lives on for a moment."""
    site.kill()
    site.start()


def worker_killed(site: Site, chance: random.Random) -> None:
    """The infer worker dies, as for want of memory."""
    for pid in workers(site):
        _signal(pid, signal.SIGKILL)


def killed_during_start(site: Site, chance: random.Random) -> None:
    """Power off, and again while the service starts."""
    _kill_all(site)
    site.launch()
    time.sleep(chance.uniform(0, 1.5))
    _kill_all(site)
    site.start()


def frozen(site: Site, chance: random.Random) -> None:
    """The service, or its infer worker, stands still for a moment."""
    assert site.process is not None
    chosen = [site.process.pid] if chance.random() < 0.5 else workers(site)
    for pid in chosen:
        _signal(pid, signal.SIGSTOP)
    time.sleep(chance.uniform(0.5, 2))
    for pid in chosen:
        _signal(pid, signal.SIGCONT)


def terminated(site: Site, chance: random.Random) -> None:
    """An administrator restarts it."""
    code = site.stop()
    assert code == 0, f"exit code {code} after SIGTERM\n{site.log()[-3000:]}"
    site.start()


FAULTS: tuple[Fault, ...] = (
    all_killed, all_killed, service_killed, service_killed, worker_killed, killed_during_start, frozen, terminated,
)  # fmt: skip
"""One of them is drawn each time."""

KILLS = {all_killed: 1, service_killed: 1, worker_killed: 1, killed_during_start: 2}
"""How often each of them kills."""


def _kill_all(site: Site) -> None:
    children = workers(site)
    site.kill()
    for pid in children:
        _signal(pid, signal.SIGKILL)


def workers(site: Site) -> list[int]:
    """The processes that the service has started."""
    assert site.process is not None
    children: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{site.process.pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                children += map(int, (task / "children").read_text().split())
    return children


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
