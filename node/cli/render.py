"""How commands print: data on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from node.tracker.views import InstanceDelivery, JobDetail, JobEvent, JobRow, Status, StudyJob

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_lines(lines: Iterable[str]) -> None:
    """Plain text, as it is."""
    for line in lines:
        out.print(escape(line), highlight=False)


def terminal_width() -> int | None:
    """Columns of the terminal; None, for lines of any length, when something else reads them."""
    return out.width if out.is_terminal else None


def print_skipped(skipped: Sequence[tuple[object, str]]) -> None:
    for where, why in skipped[:20]:
        err.print(f"[yellow]skipped[/] {escape(str(where))}: {escape(why)}")
    if len(skipped) > 20:
        err.print(f"[yellow]skipped[/] {len(skipped) - 20} more files")


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar per series on stderr, as a function of (series UID, done, total). Nothing is shown when `quiet`, or
    when stderr is not a terminal."""
    from rich.progress import Progress, TaskID

    with Progress(console=err, disable=quiet or not sys.stderr.isatty(), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(series_uid: str, done: int, total: int) -> None:
            if series_uid not in tasks:
                tasks[series_uid] = bar.add_task(f"series {series_uid}", total=total)
            bar.update(tasks[series_uid], completed=done)

        yield progress


def status_table(status: Status) -> Table:
    table = Table(show_header=False, box=None)
    since = min((str(role.get("since", "?")) for role in status.roles.values()), default="")
    table.add_row(
        "service", f"running since {since}: {', '.join(status.roles)}" if status.running else "[red]not running[/]"
    )
    table.add_row("version", f"{status.version} (research use only)")
    table.add_row("listening as", f"{status.scp.ae_title} on {status.scp.host}:{status.scp.port}")
    table.add_row("destinations", ", ".join(status.destinations) or "none")
    received = status.received
    table.add_row(
        "received",
        f"studies {received.studies}, series {received.series}, instances {received.instances}, "
        f"{received.bytes / 1e6:.1f} MB",
    )
    for kind, states in status.jobs.items():
        table.add_row(f"{kind} jobs", ", ".join(f"{n} {state}" for state, n in sorted(states.items())) or "none")
    return table


def queue_table(rows: Sequence[JobRow]) -> Table:
    table = Table(
        "id", "kind", "state", Column("study", overflow="fold"), "tries", "progress", "next attempt", "summary"
    )
    for row in rows:
        done, total = row.progress
        table.add_row(
            str(row.id), row.kind, row.state, row.study_uid, f"{row.attempts}/{row.max_attempts}",
            f"{done}/{total}" if total else "", _seconds(row.next_attempt_at), escape(row.summary or row.destination or ""),
        )  # fmt: skip
    return table


def job_table(job: JobDetail) -> Table:
    table = Table(show_header=False, box=None)
    facts = {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "study uid": job.study_uid,
        "target series uid": job.target_series_uid,
        "reference series uid": job.reference_series_uid,
        "error": job.error,
        "worker": job.worker,
        "attempts": f"{job.attempts} of {job.max_attempts}",
    }
    for name, value in facts.items():
        if value is not None:
            table.add_row(name, escape(str(value)))
    return table


def events_table(events: Sequence[JobEvent]) -> Table:
    table = Table("at", "who", "from", "to", "why")
    for event in events:
        table.add_row(f"{_seconds(event.at)}Z", event.actor, event.from_state or "", event.to_state, escape(event.why))
    return table


def instances_table(instances: Sequence[InstanceDelivery]) -> Table:
    table = Table("SOP instance", "accepted", "the peer's last answer")
    for row in instances:
        table.add_row(row.sop_uid, "yes" if row.accepted else "no", escape(row.status or "not sent yet"))
    return table


def job_line(job: StudyJob) -> str:
    """One job of a study in one line: its kind and state, and what was measured."""
    where = f" to {job.destination}" if job.destination else ""
    again = f"; next attempt {_seconds(job.next_attempt_at)}Z" if job.next_attempt_at else ""
    said = f"{job.kind}{where}: {job.state}{again}. {job.why or ''}"
    quality = job.quality
    if quality is None:
        return said
    grade = "usable" if quality.usable else f"not usable: {' '.join(quality.reasons)}"
    registration = quality.registration
    if registration is None:
        return f"{said}. The displacement of the reference was not measured. Graded {grade}"
    along_row, along_column = registration.shift_mm
    corrected = "corrected" if registration.corrected else "not corrected"
    shift = (
        f"{along_row:.2f} mm along rows, {along_column:.2f} mm along columns, {registration.rotation_deg:.2f} degrees"
    )
    return f"{said}. Displacement of the reference: {shift}, {corrected}. Graded {grade}"


def _seconds(moment: datetime | None) -> str:
    """UTC, to the second."""
    return "" if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S")
