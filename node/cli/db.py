"""Commands on the tracker's database."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from node.cli.options import ConfigOption
from node.cli.render import out
from node.config.loading import find_config, load_settings
from node.tracker.database import Database

db_app = typer.Typer(help="The schema and the backup of the tracker's database.", no_args_is_help=True)


def _database(config: ConfigOption) -> Database:
    return Database(load_settings(find_config(config)).node.url)


@db_app.command("current")
def db_current(config: ConfigOption = None) -> None:
    """Show the schema of the database, and the one that this version expects. Exit code 1 when they differ.

    Example: db current
    """
    current, expected = _database(config).revision()
    out.print(f"schema {current or 'none'}, this version expects {expected}")
    if current != expected:
        raise typer.Exit(1)


@db_app.command("upgrade")
def db_upgrade(config: ConfigOption = None) -> None:
    """Bring the schema to what this version expects, as start does. A backup of SQLite is made first.

    Example: db upgrade
    """
    database = _database(config)
    before, expected = database.revision()
    database.upgrade()
    out.print(f"schema {expected}" + ("" if before == expected else f", was {before or 'none'}"))


@db_app.command("backup")
def db_backup(
    file: Annotated[Path, typer.Argument(help="The new file.")],
    config: ConfigOption = None,
) -> None:
    """Copy the tracker while the service runs. It is for SQLite; PostgreSQL has pg_dump.

    Example: db backup /backup/tracker-2026-11-26.sqlite3
    """
    _database(config).backup(file)
    out.print(escape(f"{file}: {file.stat().st_size / 1e6:.1f} MB"))
