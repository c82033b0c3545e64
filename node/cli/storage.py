"""Commands on what is kept, and for how long."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape

from node.archive.facade import Archive
from node.cli.access import acting
from node.cli.console import out, print_json, progress_bar
from node.cli.options import ConfigOption, DryRunOption, JsonOption, YesOption, actor
from node.config.loading import load_settings
from node.config.place import find_config
from node.tracker import listing, retention, views
from node.web.words import short

storage_app = typer.Typer(help="What is kept, and for how long.", no_args_is_help=True)


@storage_app.command("free")
def storage_free(
    config: ConfigOption = None, dry_run: DryRunOption = False, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Free the studies that \\[storage] retention_days and watermark_percent let go, as housekeeping does every minute.

    Example: storage free --dry-run
    """
    from node.housekeeping.retention import due, free

    settings = load_settings(find_config(config))
    tracker, archive = acting(settings), Archive.of(settings, make=False)
    found = list(due(tracker, archive, settings.storage))
    if not dry_run and found:
        if not yes and not typer.confirm(f"free {len(found)} studies?"):
            raise typer.Exit(1)
        total, found = len(found), []
        with progress_bar(as_json) as progress:
            while freed := free(tracker, archive, settings.storage, actor()):
                found += freed
                progress("studies", len(found), max(total, len(found)))
    if as_json:
        studies = [asdict(each) | {"last_received_at": each.last_received_at.isoformat()} for each in found]
        print_json({"schema": views.SCHEMA, "dry_run": dry_run, "studies": studies})
        return
    for each in found:
        out.print(
            escape(f"{short(each.study_uid)}  {each.last_received_at:%Y-%m-%d}  {each.size / 1e6:.1f} MB  {each.state}")
        )
    said = "would be freed" if dry_run else "are freed"
    out.print(f"{len(found)} studies of {sum(each.size for each in found) / 1e9:.2f} GB {said}")


@storage_app.command("keep")
def storage_keep(
    study: Annotated[str, typer.Argument(help="Study instance UID, or its beginning.")],
    days: Annotated[float | None, typer.Option(help="For how many days. By default until it is let go.")] = None,
    let_go: Annotated[bool, typer.Option("--let-go", help="Keep it no longer than the others.")] = False,
    config: ConfigOption = None,
) -> None:
    """Keep a study, whatever its age and however full the disk is.

    Examples: storage keep 1.2.840.113619.2.1; storage keep 1.2.840.113619.2.1 --days 30
    """
    tracker = acting(load_settings(find_config(config)))
    study_uid = listing.find_study(tracker.database, study)
    until = datetime.max.replace(tzinfo=UTC) if days is None else datetime.now(UTC) + timedelta(days=days)
    retention.keep(tracker, study_uid, None if let_go else until, actor())
    said = (
        "is kept no longer than the others" if let_go else "is kept" + ("" if days is None else f" for {days:g} days")
    )
    out.print(f"study {study_uid} {said}")
