"""The migrations, and a database that does not answer."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import make_url

from node.tracker import schema
from node.tracker.database import Database, DatabaseError, without_secrets
from node.tracker.tables import Base


def test_the_migrations_make_the_tables_the_code_uses(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    assert database.revision()[0] == database.revision()[1]
    database.upgrade()  # again, as at every start


def test_the_known_revisions_are_those_of_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert schema.known_revisions() == scripts[::-1]


def test_a_tracker_whose_connections_are_all_taken_is_one_that_does_not_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not end a worker's thread, as a foreign exception would."""
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.1)
    with ExitStack() as others, pytest.raises(DatabaseError, match="does not answer"):
        for _ in range(50):
            others.enter_context(database.read())
    with database.read():
        pass


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://node:secret@db/node",
        "postgresql+psycopg://db/node?user=node&password=secret",
        "postgresql+psycopg://db/node?sslpassword=secret",
        "postgresql+psycopg:///?dsn=host%3Ddb%20password%3Dsecret",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    shown = without_secrets(make_url(url))
    assert "secret" not in shown and "***" in shown.replace("%2A", "*")
