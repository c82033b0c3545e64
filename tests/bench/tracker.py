"""How long the tracker takes for what is done all the time, with many studies in it: median and worst, SQLite.

python -m tests.bench.tracker [STUDIES] [REPEATS]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sqlalchemy import update

from node.archive.facade import Archive
from node.tracker import blocked, listing, overview, queue
from node.tracker.database import Database
from node.tracker.due import Destinations
from node.tracker.handle import Tracker
from node.tracker.listing import JobFilter, StudyFilter
from node.tracker.states import Kind, State
from node.tracker.studies import StudyState
from node.tracker.tables import Job
from tests.web.content import Content

STATES = (StudyState.DELIVERED,) * 8 + (StudyState.WAITING, StudyState.FAILED)


def fill(database: Database, archive: Archive, studies: int) -> None:
    """Studies of the last months; one in ten waits for its partner, one in ten was not delivered."""
    content = Content(database, archive)
    for n in range(studies):
        state = STATES[n % len(STATES)]
        failed = state is StudyState.FAILED
        content.study(
            state,
            patient=f"Family{n % 977}^Given{n % 31}",
            patient_id=f"ID{n:06d}",
            age=timedelta(minutes=3 * (studies - n)),
            delivery=State.FAILED if failed else State.DONE,
            error="0xA700: out of resources" if failed else None,
        )
        if n % 1000 == 0:
            content.flush()
    content.flush()


def measure(name: str, call: Callable[[], object], repeats: int) -> None:
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        taken.append((time.perf_counter() - started) * 1000)
    print(f"{statistics.median(taken):8.1f} {max(taken):8.1f}  {name}")


def main(studies: int, repeats: int) -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/tracker.sqlite3")
        database.upgrade()
        fill(database, Archive.in_folder(Path(folder) / "data"), studies)
        tracker = Tracker(database)
        one = Destinations(frozenset({"pacs"}))
        print(
            f"{studies} studies, {Path(f'{folder}/tracker.sqlite3').stat().st_size / 1e6:.0f} MB; median and worst of {repeats}, ms"
        )

        def all_of_it(backlog: str) -> None:
            measure(f"a job is due? ({backlog})", lambda: queue.next_due(tracker, Kind.DELIVER, one), repeats)
            measure(f"claim ({backlog})", lambda: queue.claim(tracker, Kind.DELIVER, "host/deliver/1", one), repeats)
            measure(f"rescue ({backlog})", lambda: queue.rescue(tracker), repeats)

        all_of_it("nothing waits")
        with database.write() as session:
            session.execute(
                update(Job).where(Job.kind == Kind.DELIVER, Job.state == State.FAILED).values(state=State.READY)
            )
        all_of_it("one delivery in ten waits")
        for name, call in {
            "first page of jobs": lambda: listing.jobs(database, JobFilter(), phi=True),
            "first page of failed jobs": lambda: listing.jobs(database, JobFilter(state=State.FAILED), phi=True),
            "first page of studies": lambda: listing.studies(database, StudyFilter(), phi=True),
            "blocked work": lambda: blocked.blocked(tracker, tracker.clock()),
            "the queue in numbers": lambda: overview.queue(database),
        }.items():
            measure(name, call, repeats)
        database.dispose()


if __name__ == "__main__":
    main(*(int(argument) for argument in (*sys.argv[1:], *("100000", "20")[len(sys.argv) - 1 :])))
