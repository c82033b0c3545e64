from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from node.tracker.arrivals import Arrival
from node.tracker.database import Database
from node.tracker.handle import Tracker


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'tracker.sqlite3'}"
    else:
        server = request.getfixturevalue("postgres")
        name = f"t{abs(hash(tmp_path))}"
        admin = create_engine(server % "postgres", isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        url = server % name
    database = Database(url)
    database.upgrade()
    yield database
    database.dispose()


@pytest.fixture
def tracker(database: Database, clock: Clock) -> Tracker:
    return Tracker(database, timedelta(seconds=60), clock)


def arrival(number: int, series: str = "1.2.1", study: str = "1.2", expected: int | None = None) -> Arrival:
    return Arrival(
        sop_uid=f"{series}.{number}", series_uid=series, study_uid=study, sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1", key=f"instances/{study}/{series}/{series}.{number}.dcm", sha256="0" * 64, size=1000,
        source="MR1", expected=expected,
    )  # fmt: skip
