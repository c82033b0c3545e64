"""What commands show of the tracker: tables for a terminal, lines for a narrow one."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.markup import escape
from rich.table import Column, Table

from node.match.explanation import acquisition_lines
from node.tracker.overview import DestinationRow
from node.tracker.status import Status
from node.tracker.views import JobDetail, StudyJob
from node.web.words import local, plain

_MOST_BLOCKED = 10


def status_table(
    status: Status, config: Path, data_dir: Path, last_received: datetime | None, destinations: Sequence[DestinationRow]
) -> Table:
    table = Table(Column(), Column(overflow="fold"), show_header=False, box=None)
    table.add_row("configuration", escape(str(config)))
    table.add_row("data folder", escape(str(data_dir)))
    since = local(
        min((datetime.fromisoformat(role.since) for role in status.roles.values() if role.since), default=None)
    )
    table.add_row(
        "service", f"running since {since}: {', '.join(status.roles)}" if status.running else "[red]not running[/]"
    )
    table.add_row("version", f"{status.version} (research use only)")
    table.add_row("listening as", escape(f"{status.scp.ae_title} on {status.scp.host}:{status.scp.port}"))
    received = status.received
    table.add_row(
        "received",
        f"studies {received.studies}, series {received.series}, instances {received.instances}, "
        f"{received.bytes / 1e6:.1f} MB; the last {local(last_received)}",
    )
    for row in destinations:
        said = [f"{row.backlog} waiting", f"last success {local(row.last_success)}"]
        if row.last_error is not None and row.last_error_at is not None:
            said.append(f"last error {local(row.last_error_at)}: {plain(row.last_error)}")
        table.add_row(f"to {escape(row.name)}", escape("; ".join(said)))
    if not destinations:
        table.add_row("destinations", "none: results stay on this machine")
    for kind, states in status.jobs.items():
        table.add_row(f"{kind} jobs", ", ".join(f"{n} {state}" for state, n in sorted(states.items())) or "none")
    for job in status.blocked[:_MOST_BLOCKED]:
        advice = f"; {job.advice}" if job.advice else ""
        table.add_row("[yellow]blocked[/]", escape(f"{job.kind} job {job.id}: {job.why}{advice}"))
    if len(status.blocked) > _MOST_BLOCKED:
        table.add_row("[yellow]blocked[/]", f"{len(status.blocked) - _MOST_BLOCKED} more jobs")
    if status.conflicts:
        refused = f"{status.conflicts} times an instance came again with other pixels under the same UID"
        table.add_row("[yellow]refused[/]", f"{refused}; diffmsr-node explain STUDY names the series")
    return table


def job_table(job: JobDetail) -> Table:
    table = Table(Column(), Column(overflow="fold"), show_header=False, box=None)
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


def job_lines(job: StudyJob) -> list[str]:
    """One job of a study, and the table of what its target's acquisition was found to be."""
    acquired = job.acquired
    if acquired is None:
        return [_job_line(job)]
    undone = acquired.summary or "nothing of the acquisition was undone"
    return [_job_line(job), *(f"  {line}" for line in [*acquisition_lines(acquired.facts), undone])]


def _job_line(job: StudyJob) -> str:
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


def conflict_line(series_uid: str, times: int) -> str:
    """What was refused of a series, and how to make room for it."""
    return (
        f"series {series_uid}: {times} times an instance came again with other content under the same UID and was refused; "
        f"to make room for it: diffmsr-node queue drop {series_uid}"
    )


def _seconds(moment: datetime | None) -> str:
    """UTC, to the second."""
    return "" if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S")
