"""The schema of the tracker: its revision in a database, the revisions that this version knows, and the way to the newest.

Alembic makes the upgrades. It is loaded for nothing else, because that takes longer than everything else that a command
does with the tracker.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

_MIGRATIONS = Path(__file__).parent / "migrations"


def known_revisions() -> list[str]:
    """The revisions that this version can upgrade, oldest first; the last one is what it expects."""
    return sorted(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def revision_of(connection: Connection) -> str | None:
    """The revision of a database; None of an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def tables(connection: Connection) -> list[str]:
    """The names of the tables in a database."""
    return inspect(connection).get_table_names()


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring a database to a revision, the newest by default, in the transaction of that connection."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
