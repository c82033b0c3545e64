"""What an administrator reads on a terminal and in a pipe: jobs, studies, the state of the service."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.main import get_command
from typer.testing import CliRunner

from node.archive.facade import Archive
from node.cli.app import app
from node.config.loading import load_settings
from node.errors import ConfigError
from node.tracker import corrections, listing, pauses, trail
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.listing import StudyFilter
from node.tracker.states import State
from node.tracker.studies import StudyState
from node.tracker.trail import AuditFilter
from tests.dicom import study
from tests.unit.node.kept import keep
from tests.web.content import SCRIPT, Content, Filled


class Site:
    """A node with three studies, and its command line."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "node.toml"
        self.config.write_text(
            'node.data_dir = "data"\nstorage.reserve_gb = 0\n[[destinations]]\nname = "pacs"\nae_title = "P"\nhost = "h"\n'
        )
        settings = load_settings(self.config)
        self.database = Database(settings.node.url)
        self.database.upgrade()
        content = Content(self.database, Archive.of(settings))
        self.failed: Filled = content.study(
            StudyState.FAILED,
            delivery=State.FAILED,
            patient="Poe^Pat",
            patient_id="P3",
            error="0xA700 (out of resources)",
        )
        self.waiting: Filled = content.study(StudyState.WAITING, patient="Moe^Max", patient_id="P4")
        content.study(patient=SCRIPT, patient_id="P5", description=SCRIPT)
        content.flush()

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"DIFFMSR_NODE_CONFIG": str(self.config)})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_job_is_one_whole_line_in_a_pipe(site: Site) -> None:
    lines = site.run("queue", "list").stdout.splitlines()
    assert lines[0].split() == ["job", "kind", "state", "changed", "try", "study", "what", "it", "says"]
    assert len(lines) == 10
    assert "─" not in "".join(lines)
    (failed,) = [line for line in lines if " failed " in line]
    assert re.match(rf" *{site.failed.deliver}  deliver  failed  +\d\d:\d\d:\d\d", failed)
    assert failed.rstrip().endswith("to pacs: 0xA700 (out of resources)")


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_nothing_that_matters_is_cut_on_a_terminal(site: Site, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    from node.cli import console

    monkeypatch.setattr(console.out, "_force_terminal", True)
    monkeypatch.setattr(console.out, "_width", width)

    def lines(*arguments: str) -> list[str]:
        shown = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in site.run(*arguments).stdout.splitlines()]
        assert all(len(line) <= width for line in shown), arguments
        return shown

    jobs = lines("queue", "list")
    assert len(jobs) <= 1 + 2 * 9, "a job is two lines at most"
    assert sum("waiting-pair" in line for line in jobs) == 1
    assert len(re.findall(r"\d\d:\d\d:\d\d", "\n".join(jobs))) == 9
    assert "to pacs: 0xA700 (out of resources)" in "\n".join(jobs)
    studies = "\n".join(lines("studies", "--phi"))
    for part in ("waiting for its partner", "Poe, Pat P3", site.failed.study_uid, site.waiting.study_uid):
        assert part in studies
    assert len(re.findall(r"\d\d:\d\d:\d\d", studies)) == 3
    audit = "\n".join(lines("audit", "list"))
    assert "viewed" in audit
    assert not {"│", "─"} & set(audit)
    assert f"{site.failed.study_uid}.9.4" in "\n".join(lines("queue", "show", str(site.failed.deliver)))


def test_a_job_is_shown_with_whole_times_and_its_instances(site: Site) -> None:
    shown = site.run("queue", "show", str(site.failed.deliver)).stdout
    assert re.search(r"\d\d:\d\d:\d\d  sending? *|\d\d:\d\d:\d\d  running", shown)
    assert re.search(r"\d\d:\d\d:\d\d  failed +host/deliver/1 +0xA700 \(out of resources\)", shown)
    assert shown.count("not sent yet") == 5
    assert "│" not in shown


def test_filters_and_limits_say_what_they_leave_out(site: Site) -> None:
    assert "2 of 9 jobs" in site.run("queue", "list", "--limit", "2").stdout
    assert site.run("queue", "list", "--state", "held").stdout == "no job matches; 9 jobs in the queue\n"
    assert len(site.run("queue", "list", "--destination", "pacs").stdout.splitlines()) == 3
    assert len(json.loads(site.run("queue", "list", "--json").stdout)["jobs"]) == 9


def test_a_study_is_found_by_its_patient_who_stays_masked(site: Site) -> None:
    found = site.run("studies", "poe").stdout
    assert site.failed.study_uid in found
    assert site.waiting.study_uid not in found
    assert "Poe" not in found
    assert "Poe" not in site.run("studies", "poe", "--json").stdout
    assert trail.rows(site.database, AuditFilter()).total == 0
    assert "Poe, Pat P3" in site.run("studies", "P3", "--phi").stdout
    (row,) = trail.rows(site.database, AuditFilter()).rows
    assert (row.action, row.details["studies"]) == ("viewed", 1)
    assert site.run("studies", "nobody").stdout == "no study matches\n"
    assert site.run("studies", "--state", "waiting for its partner").stdout.count("1.2.826") == 1


def test_a_study_is_known_by_the_beginning_of_its_uid(site: Site) -> None:
    uid = site.waiting.study_uid
    assert site.run("explain", uid).exit_code == 0
    assert site.run("explain", f"{uid[:10]}…{uid[-11:]}").exit_code == 0, "as queue list shortens it"
    assert "several studies begin with" in str(site.run("explain", uid[:-1]).exception)
    assert f"is a series of study {uid}" in str(site.run("explain", f"{uid}.1").exception)
    assert "(received: 3)" in str(site.run("explain", "9.9").exception)


def test_a_job_that_is_done_is_not_asked_about(site: Site) -> None:
    done = site.run("queue", "cancel", str(site.failed.infer))
    assert "is finished; only a job that waits or is held can be cancelled" in str(done.exception)
    assert "?" not in done.stdout
    released = site.run("queue", "release", str(site.failed.infer))
    assert str(released.exception).endswith("is done; only a held job can be released")
    assert f"queue resend {site.failed.infer}" in str(site.run("queue", "retry", str(site.failed.infer)).exception)


def test_the_status_says_where_things_are_and_what_keeps_them_from_working(site: Site) -> None:
    shown = site.run("status")
    assert shown.exit_code == 7
    for part in (str(site.config), "data folder", "the last", "to pacs", "last error", "0xA700"):
        assert part in shown.stdout
    assert "degraded" not in shown.stdout
    site.config.write_text(site.config.read_text().replace("reserve_gb = 0", "reserve_gb = 1e6"))
    full = site.run("status")
    assert "degraded" in full.stdout
    assert "below [storage] reserve_gb" in full.stdout
    assert json.loads(site.run("status", "--json").stdout)["degraded"]


@pytest.mark.parametrize(
    "command",
    [["status"], ["queue", "list"], ["replay", "1.2"], ["explain", "1.2"], ["queue", "retry", "1"], ["studies"]],
)
def test_an_account_that_may_not_read_the_data_folder_is_told_so(
    site: Site, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    really = os.access
    monkeypatch.setattr(os, "access", lambda path, *more: Path(path).name != "data" and really(path, *more))
    done = site.run(*command)
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).endswith("use the account of the service")


def test_what_is_paused_stays_paused_until_it_is_resumed(site: Site) -> None:
    assert site.run("queue", "pause", "inference").exit_code == 0
    assert site.run("queue", "pause", "pacs").exit_code == 0
    assert set(pauses.paused(site.database)) == {"inference", "deliveries to pacs"}
    assert "known: pacs" in str(site.run("queue", "pause", "other").exception)
    site.run("queue", "resume", "inference")
    assert set(pauses.paused(site.database)) == {"deliveries to pacs"}
    assert [row.details for row in trail.rows(site.database, AuditFilter()).rows] == [
        {"resumed": "inference"}, {"paused": "deliveries to pacs"}, {"paused": "inference"},
    ]  # fmt: skip


def test_the_version(site: Site) -> None:
    assert "research use only" in site.run("--version").stdout


def test_the_help_of_every_command_has_an_example() -> None:
    def commands(command: Any, name: str = "") -> Iterator[tuple[str, str]]:
        if not hasattr(command, "list_commands"):
            yield name, command.help
            return
        for word in command.list_commands(None):
            yield from commands(command.get_command(None, word), f"{name} {word}".strip())

    helps = dict(commands(get_command(app)))
    assert len(helps) > 30
    for name, text in helps.items():
        assert re.search(rf"Examples?: {name}", text), name


def test_finished_studies_are_purged_before_a_day(site: Site) -> None:
    assert "would remove 2 finished studies" in site.run("queue", "purge", "--before", "2100-01-01", "--dry-run").stdout
    assert "there are 0 finished studies" in site.run("queue", "purge", "--before", "2000-01-01").stdout
    assert site.run("queue", "purge", "--before", "2100-01-01", "--yes").stdout == "removed 2 studies\n"
    assert [row.state for row in listing.studies(site.database, StudyFilter(), phi=False).rows].count("purged") == 2
    assert site.run("explain", site.waiting.study_uid).exit_code == 0, "the one that waits is still there"


def test_a_series_is_dropped_after_a_question(site: Site) -> None:
    t2, t1 = study()
    for ds in (*t2, *t1):
        keep(Tracker(site.database), Archive.of(load_settings(site.config)), ds)
    study_uid, series_uid = str(t2[0].StudyInstanceUID), str(t2[0].SeriesInstanceUID)
    assert "no study or series 1.2.3.4.5 was received" in str(site.run("queue", "drop", "1.2.3.4.5").exception)
    assert (
        site.run("queue", "drop", study_uid, "--dry-run").stdout.split()
        == f"would drop 8 instances of study {study_uid}".split()
    )
    asked = site.run("queue", "drop", series_uid)
    assert asked.exit_code == 1 and "?" in asked.stdout, "nobody has said yes"
    tracker = Tracker(site.database)
    assert corrections.stored_count(tracker, study_uid) == 8
    done = site.run("queue", "drop", series_uid, "--yes")
    assert done.stdout.split() == f"dropped 4 instances of series {series_uid}".split()
    assert (
        corrections.stored_count(tracker, study_uid)
        == corrections.stored_count(tracker, study_uid, str(t1[0].SeriesInstanceUID))
        == 4
    )
    (row,) = [row for row in trail.rows(site.database, AuditFilter()).rows if row.action == "dropped"]
    assert row.details == {"series": series_uid, "instances": 4}
    assert site.run("queue", "drop", study_uid, "--yes").exit_code == 0
    assert corrections.stored_count(tracker, study_uid) == 0
