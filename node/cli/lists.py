"""Lists on a terminal: a line per row where it is wide, and a row of several lines where it is not. What people look for first
(number, state, time) is never cut."""

from collections.abc import Sequence

from rich.markup import escape
from rich.padding import Padding
from rich.table import Column, Table

from node.cli.console import out
from node.tracker.listing import ListedJob, Page, StudyRow
from node.tracker.states import LEASED, State
from node.tracker.views import AuditRow, InstanceDelivery, JobEvent, iso
from node.web.words import date, detail, local, person, plain, short

_ROOM = 30
"""Columns that the last value of a row needs, at least, to be read on the same line as the others."""


def listed(names: Sequence[str], rows: Sequence[Sequence[str]], first: int) -> Table:
    """Rows of plain text under these names: a table where all but the last column fit as they are. On a narrower terminal the
    `first` values of a row stay on one line, and each of the others has a line of its own below, without its name."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    needed = sum(widths[:-1]) + min(widths[-1], _ROOM) + 2 * (len(names) - 1)
    return _table(names, rows) if out.width >= needed else _stacked(names[:first], rows, widths)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    *whole, last = names
    columns = [*(Column(name, no_wrap=True) for name in whole), Column(last, overflow="fold")]
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _stacked(names: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Table:
    def line(values: Sequence[str]) -> str:
        return escape("  ".join(value.ljust(width) for value, width in zip(values, widths, strict=False)).rstrip())

    table = Table(Column(line(names), overflow="fold"), box=None, pad_edge=False)
    for row in rows:
        table.add_row(line(row[: len(names)]))
        for value in row[len(names) :]:
            if value:
                table.add_row(Padding(escape(value), (0, 0, 0, 4)))
    return table


_WITH_STUDY = 120
"""Columns of a terminal on which a job has room for its study."""


def queue_table(rows: Sequence[ListedJob]) -> Table:
    """Jobs, one below the other."""
    digits = max((len(str(row.id)) for row in rows), default=0)
    wide = out.width >= _WITH_STUDY
    names = ["job".rjust(digits), "kind", "state", "changed", "try", *(["study"] if wide else []), "what it says"]
    values = [
        [
            str(row.id).rjust(max(digits, len("job"))), row.kind, row.state, local(row.updated_at),
            f"{row.attempts}/{row.max_attempts}", *([short(row.study_uid)] if wide else []), _says(row),
        ]
        for row in rows
    ]  # fmt: skip
    return listed(names, values, first=5)


def print_queue(page: Page[ListedJob], everything: int) -> None:
    """A part of the queue, and how much more there is."""
    if not page.rows:
        out.print(f"no job matches; {everything} jobs in the queue" if everything else "the queue is empty")
        return
    out.print(queue_table(page.rows))
    if page.total > len(page.rows):
        out.print(f"{len(page.rows)} of {page.total} jobs; --limit shows more")


def _says(row: ListedJob) -> str:
    where = f"to {row.destination}: " if row.destination else ""
    done, total = row.progress
    progress = f"{done} of {total}; " if total and row.state in LEASED else ""
    again = (
        f"; next attempt {local(row.next_attempt_at)}" if row.state is State.RETRY_WAIT and row.next_attempt_at else ""
    )
    return f"{where}{progress}{plain(row.error or row.why or '')}{again}"


def print_studies(page: Page[StudyRow], phi: bool) -> None:
    """Studies, one below the other; with their patients if these may be seen."""
    if not page.rows:
        out.print("no study matches")
        return
    names = ["state", "received", "study date", "study", *(["patient"] if phi else []), "why"]
    values = [
        [
            row.state, local(row.last_received_at), date(row.study_date), row.study_uid,
            *([f"{person(row.patient_name)} {plain(row.patient_id or '')}".strip()] if phi else []),
            plain(row.reason or ""),
        ]
        for row in page.rows
    ]  # fmt: skip
    out.print(listed(names, values, first=3))
    if page.total > len(page.rows):
        out.print(f"{len(page.rows)} of {page.total} studies; --limit shows more")


def events_table(events: Sequence[JobEvent]) -> Table:
    """What happened to a job."""
    values = [[local(event.at), event.to_state, plain(event.actor), plain(event.why)] for event in events]
    return listed(["at", "state", "who", "why"], values, first=2)


def instances_table(instances: Sequence[InstanceDelivery]) -> Table:
    """What a destination answered for each instance."""
    values = [["yes" if row.accepted else "no", row.sop_uid, plain(row.status or "not sent yet")] for row in instances]
    return listed(["accepted", "SOP instance", "the peer's last answer"], values, first=1)


def audit_table(rows: Sequence[AuditRow]) -> Table:
    """Rows of the audit trail, with their time in UTC."""
    values = [
        [
            iso(row.at), row.action, plain(row.actor), row.study_uid or "", row.node,
            ", ".join(f"{name} {detail(value)}" for name, value in row.details.items()),
        ]
        for row in rows
    ]  # fmt: skip
    return listed(["at", "what", "who", "study", "node", "details"], values, first=2)
