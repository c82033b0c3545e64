"""Commands on the tracker's database."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from node.archive.facade import Archive
from node.cli.console import out, progress_bar
from node.cli.options import ConfigOption, YesOption
from node.config.loading import load_settings
from node.config.place import find_config
from node.config.settings import Settings
from node.errors import NodeError
from node.locks import running_roles
from node.receive.adopt import mark
from node.tracker import identity, recovery
from node.tracker.database import Database
from node.tracker.handle import Tracker

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
    with progress_bar(False) as progress:
        _database(config).backup(file, partial(progress, "bytes"))
    out.print(escape(f"{file}: {file.stat().st_size / 1e6:.1f} MB"))


@db_app.command("restore")
def db_restore(
    file: Annotated[Path, typer.Argument(help="A file that db backup made.")],
    config: ConfigOption = None,
    yes: YesOption = False,
) -> None:
    """Put a backup in the place of the tracker, while the service is stopped. The tracker that is there is set aside.

    The next start enters the instances that were received since the backup was made.

    Example: db restore /backup/tracker-2026-11-26.sqlite3
    """
    settings, path = _stopped(config, "restore")
    if not yes and not typer.confirm(f"put {file} in the place of {path}?"):
        raise typer.Exit(1)
    with progress_bar(False) as progress:
        aside = recovery.restore(path, file, partial(progress, "bytes"))
    _begin_with(settings)
    kept = f"; what was there is {aside}" if aside else ""
    out.print(escape(f"{path} is {file} now{kept}"))
    out.print("instances that were received since are entered at the next start: diffmsr-node start")


@db_app.command("rebuild")
def db_rebuild(config: ConfigOption = None, yes: YesOption = False) -> None:
    """Make a new tracker from what is stored and from what can still be read of the old one, while the service is stopped.

    Deliveries that can no longer be read are made again, with the same UIDs and bytes.

    Example: db rebuild --yes
    """
    from datetime import UTC, datetime, timedelta

    from node.receive.adopt import adopt
    from node.receive.store import Store

    settings, path = _stopped(config, "rebuild")
    archive = Archive.of(settings)
    if not yes and not typer.confirm(f"set {path} aside, and make a new tracker?"):
        raise typer.Exit(1)
    aside = recovery.set_aside(path)
    database = Database(settings.node.url)
    database.upgrade()
    if aside is not None:
        with progress_bar(False) as progress:
            found = recovery.salvage(aside, database, partial(progress, "tables"))
        rows = ", ".join(f"{count} {table}" for table, count in found.items() if count)
        out.print(escape(f"read of {aside}: {rows or 'nothing'}"))
    tracker = Tracker(database)
    store = Store(archive, tracker, settings.completion.series_quiet_s, settings.node.index_patient)
    before = datetime.now(UTC) + timedelta(days=1)
    total = sum(len(keys) for _, keys in archive.instance_keys(before))
    with progress_bar(False) as progress:
        done = adopt(
            archive, tracker, store.readmit, before, progress=lambda seen: progress("instances", seen, total)
        )  # fmt: skip
    _begin_with(settings)
    out.print(
        f"{done.entered} instances are entered from the archive, {done.removed} files that cannot be read are removed"
    )


def _stopped(config: ConfigOption, act: str) -> tuple[Settings, Path]:
    """The settings, and the file of the tracker, which nobody uses now."""
    settings = load_settings(find_config(config))
    path = recovery.place(Database(settings.node.url))
    running = running_roles(settings.node.data_dir)
    if running:
        raise NodeError(f"the service is running ({', '.join(running)}); stop it to {act} the tracker")
    return settings, path


def _begin_with(settings: Settings) -> None:
    """Have the data folder take the tracker that is in place, and the next start look for instances without rows."""
    database = Database(settings.node.url)
    database.upgrade()
    shared = Archive.of(settings) if settings.storage.archive else None
    identity.confirm(database, settings.node.data_dir, shared, instead=True)
    database.dispose()
    mark(settings.node.data_dir)
