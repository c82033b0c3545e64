"""A node works for a scanner and a PACS, and faults come, drawn by a seed. What is left of it is judged in the end."""

import random
import threading
import time
from collections import Counter
from pathlib import Path

from tests.acceptance.conftest import Orthanc, Site
from tests.chaos import reader
from tests.chaos.faults import FAULTS, KILLS
from tests.chaos.scanner import SentStudy

SLICES = 4
STUDY_EVERY = 3
"""One fault in so many comes with a study of its own; the others find what is still in work, or nothing."""
LONGEST_WAIT_S = 3.0
MOMENTS = ("arriving", "infer", "derive", "deliver", "whenever")
"""What is awaited before a fault; or a while passes, when it does not come."""


def run(folder: Path, seed: int, kills: int) -> tuple[list[str], str]:
    """What does not hold in the end, and figures in words."""
    chance = random.Random(seed)
    pacs = Orthanc(folder / "pacs")
    pacs.start()
    site = Site(folder, pacs.port)
    ask = reader.asking_sqlite(folder / "data" / "tracker.sqlite3")
    done: Counter[str] = Counter()
    sent: list[SentStudy] = []
    senders: list[threading.Thread] = []

    def send() -> None:
        sent.append(SentStudy(folder / "scanner" / str(len(sent)), SLICES))
        senders.append(threading.Thread(target=sent[-1].send, args=(site.port,), daemon=True))
        senders[-1].start()

    def finish() -> None:
        """Wait until all that was sent is done."""
        for study in sent:
            site.until(lambda study=study: not study.missing(), f"study {study.study_uid} is acknowledged")  # type: ignore[misc]
            site.until(lambda study=study: _settled(ask, study), f"study {study.study_uid} is done")  # type: ignore[misc]

    try:
        site.start()
        send()
        finish()
        while sum(times * done[fault.__name__] for fault, times in KILLS.items()) < kills:
            if sum(done.values()) % STUDY_EVERY == 0:
                send()
            fault = chance.choice(FAULTS)
            _await(chance.choice(MOMENTS), ask, sent[-1], chance)
            fault(site, chance)
            done[fault.__name__] += 1
        finish()
        code = site.stop()
        wrong = [f"exit code {code} after SIGTERM"] if code else []
        site.node(
            "process", str(folder / "scanner"), "--output", str(folder / "expected"), "--config", str(site.config)
        )
        wrong += reader.judge(folder / "data", ask, pacs, sent, folder / "expected")
    finally:
        for study in sent:
            study.give_up()
        if site.process is not None and site.process.poll() is None:
            site.kill()
        pacs.stop()
    acknowledged = sum(len(set(study.acknowledged)) for study in sent)
    faults = ", ".join(f"{count} {name}" for name, count in sorted(done.items()))
    return (
        wrong,
        f"seed {seed}: {sum(done.values())} faults ({faults}), {len(sent)} studies, {acknowledged} instances acknowledged",
    )


def _settled(ask: reader.Ask, study: SentStudy) -> bool:
    """Whether a study has come to its end, good or bad."""
    states = reader.states(ask, study.study_uid)
    bad = {state for found in states.values() for state in found} & {"failed", "refused", "cancelled", "held"}
    return bool(bad) or reader.is_done(ask, study.study_uid)


def _await(moment: str, ask: reader.Ask, study: SentStudy, chance: random.Random) -> None:
    """Wait for a moment in the life of a study, but not for long: it may have passed."""
    until_s = time.monotonic() + chance.uniform(0, LONGEST_WAIT_S) * (1 if moment == "whenever" else 3)
    while time.monotonic() < until_s:
        if moment == "arriving" and study.acknowledged:
            break
        if set(reader.states(ask, study.study_uid).get(moment, [])) & {"running", "sending"}:
            break
        time.sleep(0.05)
