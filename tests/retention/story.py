"""Scanners send, the node works, frees what is done with, and the PACS is away at times until senders are pushed back."""

import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from tests.acceptance.conftest import Orthanc, Site
from tests.chaos.faults import workers
from tests.chaos.scanner import SentStudy
from tests.retention.judge import judge
from tests.retention.volume import mounted
from tests.retention.watch import Watch
from tests.waiting import until

SLICES = 3
SENDERS = 3
AHEAD = 40
"""While the PACS answers, so many studies are sent beyond those that are done, as scanners make pauses."""
OUTAGES = (0.2, 0.6)
"""The share of the studies at which the PACS goes away."""
PUSHED_BACK = 20
"""It comes back after the node has had no room so often, with deliveries that wait."""
RESERVE = 0.08
"""Of the volume."""
SAMPLES = 20
"""So many studies are also made without service and network, to compare pixels."""
FLAT_MB = 50.0
ENDS = ("delivered", "being purged", "purged", "refused", "failed", "cancelled")
"""States of a study for which no work is to come."""


def run(folder: Path, count: int, megabytes: int) -> tuple[list[str], str]:
    """What does not hold in the end, and figures in words."""
    pacs = Orthanc(folder / "pacs")
    pacs.start()
    try:
        with mounted(folder / "data", megabytes) as kind:
            wrong, figures = _run(folder, pacs, count, megabytes)
            return wrong, f"{count} studies through {megabytes} MB of {kind}: {figures}"
    finally:
        with suppress(OSError):
            pacs.stop()


def _run(folder: Path, pacs: Orthanc, count: int, megabytes: int) -> tuple[list[str], str]:
    storage = (
        f"storage = {{ reserve_gb = {megabytes * RESERVE / 1000}, retention_days = 0.002, watermark_percent = 70 }}"
    )
    site = Site(folder, pacs.port, **{"storage.reserve_gb = 0.01": storage})
    scanners = Scanners(folder / "scanner", site.port, count, lambda: finished(site))
    began = time.monotonic()
    try:
        site.start()
        with Watch(folder / "data", lambda: [site.process.pid, *workers(site)], lambda: finished(site)) as watch:  # type: ignore[union-attr]
            scanners.start()
            for share in OUTAGES:
                _until(site, lambda share=share: len(scanners.sent) >= share * count, "studies are sent", scanners)  # type: ignore[misc]
                pacs.stop()
                scanners.hurry.set()
                before = scanners.pushed_back().total()

                def enough(before: int = before) -> bool:
                    pushed_back = scanners.pushed_back().total() - before >= PUSHED_BACK
                    waiting = ask(site, "SELECT count(*) FROM job WHERE kind = 'deliver' AND state = 'retry-wait'")
                    return scanners.are_done() or (pushed_back and waiting >= 1)

                _until(site, enough, "senders are pushed back", scanners)
                pacs.start()
                scanners.hurry.clear()
            _until(site, scanners.are_done, "everything is acknowledged", scanners)
            _until(site, lambda: finished(site) == count, "everything is done", scanners)
        took = time.monotonic() - began
        code = site.stop()
        wrong = [f"exit code {code} after SIGTERM"] if code else []
        expected = folder / "expected"
        site.node("process", str(folder / "scanner"), "--output", str(expected), "--config", str(site.config))
        wrong += judge(folder / "data", pacs, scanners.sent, SLICES, expected)
    finally:
        scanners.give_up()
        if site.process is not None and site.process.poll() is None:
            site.kill()
    purged = ask(site, "SELECT count(*) FROM study WHERE purged_at IS NOT NULL")
    first, last = watch.peak(count // 5, count // 2), watch.peak(count // 2 + 1, count)
    if not scanners.pushed_back():
        wrong.append("no sender was ever pushed back: the volume is too large for so few studies")
    if not purged:
        wrong.append("nothing was freed")
    for name, before_mb, after_mb in zip(("service", "infer worker"), first, last, strict=False):
        if after_mb - before_mb > FLAT_MB:
            wrong.append(f"the memory of the {name} grew from {before_mb:.0f} to {after_mb:.0f} MB")
    pushed_back = ", ".join(f"{times} times {what}" for what, times in sorted(scanners.pushed_back().items()))
    memory = " and ".join(f"{a:.0f} then {b:.0f} MB" for a, b in zip(first, last, strict=False))
    return wrong, (
        f"{purged} freed, senders {pushed_back}, least free {watch.least_free / 1e6:.0f} MB, memory of service and infer "
        f"worker in the first and second half {memory}, {took:.0f} s"
    )


class Scanners:
    """Threads that send one study after the other, and each again until it is acknowledged."""

    def __init__(self, folder: Path, port: int, count: int, finished: Callable[[], int]) -> None:
        self.sent: list[SentStudy] = []
        self.hurry = threading.Event()
        """Set: send without pauses."""
        self._folder, self._port, self._count, self._finished = folder, port, count, finished
        self._numbers: Iterator[int] = iter(range(count))
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(SENDERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def are_done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def give_up(self) -> None:
        self._over.set()
        for study in self.sent:
            study.give_up()

    def pushed_back(self) -> Counter[str]:
        return sum((study.pushed_back for study in list(self.sent)), Counter())

    def _send(self) -> None:
        while not self._over.is_set():
            with self._guard:
                number = next(self._numbers, None)
                if number is None:
                    return
                study = SentStudy(self._folder / str(number), SLICES)
                self.sent.append(study)
            study.send(self._port)
            if number % max(1, self._count // SAMPLES):  # the others are kept, to compare
                shutil.rmtree(self._folder / str(number))
            while not self.hurry.is_set() and not self._over.is_set() and number - self._finished() > AHEAD:
                time.sleep(0.5)


def finished(site: Site) -> int:
    """How many studies have come to their end, good or bad: they are freed, or their delivery is."""
    return ask(site, f"SELECT count(*) FROM study WHERE state IN {ENDS}")


def _until(site: Site, condition: Callable[[], object], what: str, scanners: Scanners) -> None:
    """Wait as long as the service runs, and anything goes on."""

    def holds() -> object:
        assert site.process is not None and site.process.poll() is None, site.log()[-3000:]
        time.sleep(0.2)
        return condition()

    until(holds, what, lambda: (len(scanners.sent), finished(site), scanners.pushed_back().total()))


def ask(site: Site, query: str) -> int:
    """A number of the tracker; 0 while it does not answer."""
    try:
        with closing(sqlite3.connect(site.folder / "data" / "tracker.sqlite3")) as tracker:
            return int(tracker.execute(query).fetchone()[0])
    except sqlite3.Error:
        return 0
