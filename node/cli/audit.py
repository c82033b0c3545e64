"""Commands that read the audit trail, and remove its old rows."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from node.cli.access import acting, open_tracker
from node.cli.console import out, print_json
from node.cli.lists import audit_table
from node.cli.options import ConfigOption, DryRunOption, JsonOption, YesOption, actor
from node.config.loading import load_settings
from node.config.place import find_config
from node.tracker import audit, duties, views

audit_app = typer.Typer(help="Read the audit trail, and remove its old rows.", no_args_is_help=True)

Day = Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="As 2026-01-31, UTC.")]


@audit_app.command("list")
def audit_list(
    config: ConfigOption = None,
    study: Annotated[str | None, typer.Option(help="Only rows of this study instance UID.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many rows, the latest.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show what was done with which study, and with the node: who, when, what.

    Examples: audit list --limit 20; audit list --study 1.2.840.113619.2.1 --json
    """
    rows = views.audit_rows(open_tracker(load_settings(find_config(config))), study, limit)
    if as_json:
        print_json({"schema": views.SCHEMA, "audit": [row.to_json() for row in rows]})
        return
    out.print(audit_table(rows) if rows else "the audit trail is empty")


@audit_app.command("expire")
def audit_expire(
    before: Day, config: ConfigOption = None, yes: YesOption = False, dry_run: DryRunOption = False
) -> None:
    """Remove rows that are older than a day. The trail keeps a row that says who removed how many, and before which day.

    Nothing else removes rows: the database refuses to change or delete them. Rows that the collector of \\[audit] does not
    have yet stay.

    Examples: audit expire 2025-01-31 --dry-run; audit expire 2025-01-31 --yes
    """
    settings = load_settings(find_config(config))
    tracker = acting(settings)
    moment = before.replace(tzinfo=UTC)
    sent = duties.position(tracker, duties.Name.AUDIT_MESSAGES) if settings.audit else None
    count = audit.count_before(tracker, moment, sent)
    if dry_run:
        out.print(f"would remove {count} rows from before {before:%Y-%m-%d}")
        return
    if not yes and not typer.confirm(f"remove {count} rows from before {before:%Y-%m-%d}?"):
        raise typer.Exit(1)
    out.print(f"{audit.expire(tracker, moment, actor(), sent)} rows are removed")
