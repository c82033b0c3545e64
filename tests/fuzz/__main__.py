"""python -m tests.fuzz --data-sets 10000 --seed 0

Exit code 0 when none of the examples crashed a surface, filled memory, or brought patient data into the log; else 1, with
the first example of each kind of failure kept as a file.
"""

import argparse
import os
import resource
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from node.telemetry.log import configure_logging
from tests.fuzz.corpus import SECRET, corpus, part10
from tests.fuzz.mutate import PIXELS, Damaged, damaged
from tests.fuzz.surfaces import NAMED, Receive, Study, warm_up

HEADROOM = 6 << 30
"""Bytes of addresses beyond what is in use: enough for the 4 GiB that an element may claim, which a read reserves without
touching; whatever asks for more meets MemoryError."""


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    arguments.add_argument("--data-sets", type=int, default=10_000, help="damaged ones; an example has up to three")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--memory-mb", type=int, default=512, help="by how much an example may raise the peak")
    arguments.add_argument("--process-every", type=int, default=200, help="one example in so many is super-resolved")
    arguments.add_argument("--shared-data", type=Path, default=os.environ.get("DIFFMSR_SHARED_DATA"))
    arguments.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="where failing examples go")
    given_ = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return Run(given_, Path(folder)).run()


class Run:
    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self._arguments, self._folder = arguments, folder
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._damage: Counter[str] = Counter()
        self._failures: dict[str, tuple[int, str]] = {}
        self._slowest = (0.0, "")
        self._peak = 0
        self._damaged = 0

    def run(self) -> int:
        log = self._folder / "log"
        stderr = os.dup(2)
        with log.open("wb") as file:
            os.dup2(file.fileno(), 2)  # what libraries written in C say comes here too
        configure_logging("INFO", json=True)
        threading.excepthook = lambda raised: self._fail("thread", raised.exc_value, None)
        instances = corpus(self._arguments.shared_data)
        started = time.monotonic()
        try:
            with Receive(self._folder / "receive") as receive:
                study = Study(self._folder / "study")
                warm_up(receive, study, instances)
                base = _peak_mb()
                self._peak = base
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, resource.RLIM_INFINITY))
                self._examples(instances, receive, study, base)
                try:
                    receive.judge()
                except Exception as error:
                    self._fail("archive", error, None)
                refused = sum(n for answer, n in receive.answers.items() if answer not in ("SUCCESS", "aborted"))
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
        text = log.read_bytes()
        if SECRET.encode() in text:
            at = text.index(SECRET.encode())
            self._fail("log", AssertionError(f"patient data in the log: {text[max(at - 300, 0) : at + 60]!r}"), None)
        said = text.count(b'"receive.')
        if said < refused:
            self._fail("log", AssertionError(f"{refused} instances refused, {said} lines in the log"), None)
        self._report(time.monotonic() - started, base, text.count(b"\n"), said, refused)
        return 1 if self._failures else 0

    def _examples(self, instances: list[Any], receive: Receive, study: Study, base: int) -> None:
        arguments = self._arguments
        surfaces: dict[str, tuple[Callable[[Any], str], Callable[[Random], Any]]] = {
            "receive": (
                lambda x: receive.try_to_store(*x),
                lambda draw: (damaged(draw, instances), draw.choice(NAMED)),
            ),
            "match": (study.try_to_match, lambda draw: _some(draw, study)),
            "volume": (study.try_to_read, lambda draw: damaged(draw, instances, draw.choice([(), PIXELS]))),
            "process": (study.try_to_process, lambda draw: _some(draw, study)),
        }
        for number in count():
            if self._damaged >= arguments.data_sets:
                break
            draw = Random(f"{arguments.seed} {number}")
            every = arguments.process_every
            name = "process" if number % every == every - 1 else ("receive", "match", "volume")[number % 3]
            attempt, example = surfaces[name]
            drawn = example(draw)
            self._damaged += len(_instances(drawn))
            self._damage.update(done for one in _instances(drawn) for done in one.done)
            began = time.monotonic()
            try:
                self._outcomes[name, attempt(drawn)] += 1
                peak = _peak_mb()
                grown = peak - max(self._peak, base)
                self._peak = max(self._peak, peak)
                assert grown <= arguments.memory_mb, f"memory grew by {grown} MB"
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever it is, the next example is tried too
                self._fail(name, error, drawn)
            took = time.monotonic() - began
            self._slowest = max(self._slowest, (took, f"{name} {[d.done for d in _instances(drawn)]}"))

    def _fail(self, name: str, error: BaseException | None, drawn: Any) -> None:
        assert error is not None
        frames = traceback.extract_tb(error.__traceback__)
        place = next((f"{f.filename}:{f.lineno}" for f in reversed(frames) if "/node/" in f.filename), "")
        last = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        kind = f"{name}: {type(error).__name__} at {place or last}"
        times, text = self._failures.get(kind, (0, ""))
        if not times:
            text = "".join(traceback.format_exception(error))[-3000:]
            self._arguments.keep.mkdir(parents=True, exist_ok=True)
            for n, one in enumerate(_instances(drawn)):
                path = self._arguments.keep / f"{len(self._failures)}-{n}.dcm"
                path.write_bytes(part10(one.instance, one.data_set))
                text += f"\n  kept as {path}: {one.instance.name}, {', '.join(one.done)}"
        self._failures[kind] = (times + 1, text)

    def _report(self, seconds: float, base: int, lines: int, said: int, refused: int) -> None:
        for (name, outcome), times in sorted(self._outcomes.items()):
            print(f"{times:7}  {name:8} {outcome}")
        print(f"damage: {', '.join(f'{what} {n}' for what, n in self._damage.most_common())}")
        print(f"slowest: {self._slowest[0]:.1f} s, {self._slowest[1]}")
        print(f"log: {lines} lines, {said} of them of {refused} instances refused; no patient data in them")
        print(f"memory: {base} MB before, {_peak_mb()} MB at the peak (resident)")
        print(
            f"{self._damaged} damaged data sets of seed {self._arguments.seed} in {seconds:.0f} s, "
            f"{len(self._failures)} kinds of failure"
        )
        for kind, (times, text) in self._failures.items():
            print(f"\nFAILED {times} times, {kind}\n{text}")


def _some(draw: Random, study: Study) -> list[tuple[int, Damaged]]:
    """One to three damaged instances of the study, with their places in it."""
    places = [draw.randrange(len(study.instances)) for _ in range(draw.randint(1, 3))]
    return [(place, damaged(draw, [study.instances[place]])) for place in places]


def _instances(drawn: Any) -> list[Damaged]:
    if isinstance(drawn, Damaged):
        return [drawn]
    return [d for part in drawn for d in _instances(part)] if isinstance(drawn, list | tuple) else []


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
