"""How long the tracker takes for what is done all the time, with many studies in it (SQLite).

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
from node.tracker.tables import Delivery, Event, Instance, Job, Series, Study
from tests.web.content import Content

STATES = (StudyState.DELIVERED,) * 8 + (StudyState.WAITING, StudyState.FAILED)


BLOCK = 1000
"""So many studies are made row by row. The others are copies of them, which the database makes much faster."""
NAMES = {"study_uid", "series_uid", "sop_uid", "target_series_uid", "reference_series_uid", "key", "patient_id"}
NUMBERS = {
    "job": {"id": "job", "parent_id": "job"},
    "event": {"id": "event", "job_id": "job"},
    "delivery": {"job_id": "job"},
}


def multiply(database: Database, times: int) -> None:
    """Copy all that there is so many times, under other names and numbers."""
    with database.transaction(durable=False) as connection:
        last = {
            name: connection.exec_driver_sql(f"SELECT max(id) FROM {name}").scalar_one() for name in ("job", "event")
        }
        for copy in range(1, times):
            for table in (Study, Series, Instance, Job, Event, Delivery):
                name, values = table.__tablename__, []
                numbers = NUMBERS.get(name, {})
                columns = [column.name for column in table.__table__.columns]
                for column in columns:
                    if column in numbers:
                        values.append(f"{column} + {copy * last[numbers[column]]}")
                    else:
                        values.append(f"{column} || '-{copy}'" if column in NAMES else column)
                first = (
                    f"{next(iter(numbers))} <= {last[next(iter(numbers.values()))]}"
                    if numbers
                    else "study_uid NOT LIKE '%-%'"
                )
                connection.exec_driver_sql(
                    f"INSERT INTO {name} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {name} WHERE {first}"
                )


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
    """Of processor time, which other programs of the machine change little, and of the clock."""
    call()
    taken, used = [], []
    for _ in range(repeats):
        started, started_cpu = time.perf_counter(), time.process_time()
        call()
        used.append((time.process_time() - started_cpu) * 1000)
        taken.append((time.perf_counter() - started) * 1000)
    print(f"{statistics.median(used):8.1f} {statistics.median(taken):8.1f} {max(taken):8.1f}  {name}", flush=True)


def filled(folder: Path, studies: int) -> Database:
    """A tracker in folder/tracker.sqlite3 with so many studies."""
    database = Database(f"sqlite:///{folder}/tracker.sqlite3")
    database.upgrade()
    fill(database, Archive.in_folder(folder / "data"), min(BLOCK, studies))
    multiply(database, max(1, studies // BLOCK))
    return database


def main(studies: int, repeats: int) -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as folder:
        database = filled(Path(folder), studies)
        tracker = Tracker(database)
        one = Destinations(frozenset({"pacs"}))
        print(
            f"{studies} studies, {Path(f'{folder}/tracker.sqlite3').stat().st_size / 1e6:.0f} MB; "
            f"processor time (median), clock (median, worst) of {repeats}, ms"
        )

        def all_of_it(backlog: str) -> None:
            measure(f"a job is due? ({backlog})", lambda: queue.next_due(tracker, Kind.DELIVER, one), repeats)
            measure(f"claim ({backlog})", lambda: queue.claim(tracker, Kind.DELIVER, "host/deliver/1", one), repeats)
            measure(f"rescue ({backlog})", lambda: queue.rescue(tracker), repeats)

        all_of_it("nothing waits")
        with database.write() as session:
            session.execute(
                update(Job)
                .where(Job.kind == Kind.DELIVER, Job.state == State.FAILED)
                .values(state=State.READY, next_attempt_at=tracker.clock())
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
