"""A tracker and data folder that an earlier version left are taken over by `start` without loss.

`data/main-2026-11` was made by a real service (see `make_fixture.py`); its rows hold absolute paths of a folder that is
gone. Here it is unpacked elsewhere, the service is started on it, and everything is asked of the command line, of the
peers it sends to, and of the files. Nothing here knows how tracker and archive are laid out.
"""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.migration.migrated import (
    JOBS,
    MANIFEST,
    MOVING,
    STUDIES,
    WEIGHTS,
    Site,
    assert_taken,
    codes,
    deliveries,
    received,
    sha256,
    the_job,
    without_meta,
)
from tests.migration.peers import Archive
from tests.program import run_program

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("migrated"))
    yield site
    assert site.stop() == 0


@pytest.fixture(scope="module")
def backup(site: Site) -> Archive:
    """The destination that was down, up at last."""
    return site.backup.start()


# ---------------------------------------------------------------------- all that was there is there


def test_the_service_runs_and_counts_what_it_had(site: Site) -> None:
    status = json.loads(site.node("status", "--json"))
    assert status["running"]
    assert {name: status["received"][name] for name in MANIFEST["totals"]} == MANIFEST["totals"]


def test_every_job_is_there_and_has_only_moved_forward(site: Site) -> None:
    now = site.jobs()
    assert JOBS.keys() <= now.keys()
    for job_id, before in JOBS.items():
        job = now[job_id]
        for name in ("kind", "study_uid", "target_series_uid", "reference_series_uid", "destination", "created_at"):
            assert job[name] == before[name], (job_id, name)
        if before["state"] not in MOVING and before["kind"] != "commit":
            for name in ("state", "attempts", "max_attempts", "next_attempt_at", "error", "updated_at"):
                assert job[name] == before[name], (job_id, name)


@pytest.mark.parametrize("job_id", [n for n, j in JOBS.items() if j["kind"] == "deliver" or j["state"] != "done"])
def test_the_history_of_a_job_goes_on_where_it_was(site: Site, job_id: int) -> None:
    job, before = site.job(job_id), JOBS[job_id]
    assert job["events"][: len(before["events"])] == before["events"]
    assert job["key"] == before["key"]
    if job["parent_id"] != before["parent_id"]:
        between = site.job(job["parent_id"])
        assert (between["kind"], between["parent_id"]) == ("derive", before["parent_id"])
    if before["state"] not in MOVING and before["kind"] != "commit":
        assert len(job["events"]) == len(before["events"])
        for now, then in zip(job["instances"], before["instances"], strict=True):
            assert now.items() >= then.items(), "a later version may say more, and nothing else"


def test_every_file_is_kept_as_it_was(site: Site) -> None:
    """Wherever the files are now: those received, the derived ones with their pages, and the pixels of the results."""
    contents = [path.read_bytes() for path in site.data.rglob("*") if path.is_file() and "sqlite" not in path.name]
    kept = {sha256(content) for content in contents}
    assert {row["file_sha256"] for row in MANIFEST["instances"]} <= kept
    assert {digest for path, digest in MANIFEST["derived"].items() if path.endswith((".dcm", ".html"))} <= kept
    for key, result in MANIFEST["results"].items():
        with np.load(site.before / "data" / result["path"], allow_pickle=False) as file:
            pixels = np.ascontiguousarray(file["pixels"], "<f4").tobytes()
        assert sha256(pixels) == result["pixels_sha256"]
        assert any(pixels in content for content in contents), key


def test_a_half_written_file_is_discarded(site: Site) -> None:
    """It was never acknowledged, and is an instance of a study that waits."""
    (name,) = MANIFEST["half_written"]
    half = (site.before / "data" / "incoming" / name).read_bytes()
    assert not any(path.read_bytes() == half for path in site.data.rglob("*") if path.stat().st_size == len(half))


@pytest.mark.parametrize("study", ["delivered", "enhanced", "refused", "negative", "waiting", "superseded"])
def test_a_study_is_explained_as_it_was(site: Site, study: str) -> None:
    before = (site.before / "explain" / f"{STUDIES[study]}.json").read_text()
    (verdict,), (was,) = (json.loads(t)["studies"] for t in (site.node("explain", STUDIES[study], "--json"), before))
    assert (verdict["outcome"], verdict.get("code")) == (was["outcome"], was.get("code"))
    ids = {job["id"] for job in was["jobs"]}
    assert ids <= {job["id"] for job in verdict["jobs"]}
    for side in (verdict, was):
        side.pop("jobs")
    assert codes(json.dumps(verdict)) == codes(json.dumps(was))


# ---------------------------------------------------------------------- what was finished stays so


@pytest.mark.parametrize("study", ["delivered", "enhanced", "kept"])
def test_a_result_is_made_again_as_it_was(site: Site, study: str) -> None:
    """`replay` reads sources and result by their rows. A newer version may ask more and give other identifiers; it never
    answers the same question otherwise, and of the same weights it never makes other pixels."""
    weights = {"DIFFMSR_NODE_MODEL__PATH": str(WEIGHTS)}
    done = run_program(["replay", STUDIES[study], "--json", "--config", site.config], weights)
    assert done.returncode in (0, 8), done.stderr
    (replay,) = json.loads(done.stdout)["studies"]
    both = [answer for answer in replay["answers"] if answer["kept"] and answer["now"]]
    assert not [answer for answer in both if answer["kept"]["outcome"] != answer["now"]["outcome"]]
    assert all(outcome["kept"] == outcome["now"] == "done" for outcome in replay["outcomes"])
    assert replay["series"]
    # Another number of threads than the fixture's adds in another order: one stored value at most, of up to 65,535.
    assert all(series["pixels"] is None or series["pixels"]["largest"] <= 1 for series in replay["series"])


def test_a_report_is_found(site: Site, tmp_path: Path) -> None:
    job_id = the_job("delivered", "deliver", "done")
    site.node("queue", "report", str(job_id), "--html", str(tmp_path / "page.html"))
    pages = {path: digest for path, digest in MANIFEST["derived"].items() if path.endswith(".html")}
    (folder,) = {Path(row["path"]).parent for row in deliveries(job_id)}
    assert sha256((tmp_path / "page.html").read_bytes()) == pages[str(folder / "report.html")]


def test_a_study_sent_again_changes_nothing(site: Site) -> None:
    before = site.jobs("delivered")
    of_study = [row for row in MANIFEST["instances"] if row["study_uid"] == STUDIES["delivered"]]
    paths = [site.before / "data" / row["path"] for row in of_study]
    assert set(site.scanner.send(site.ports["node"], paths)) == {0}
    after = site.jobs("delivered")
    assert {n: j for n, j in after.items() if j["kind"] != "commit"} == {
        n: j for n, j in before.items() if j["kind"] != "commit"
    }


# ---------------------------------------------------------------------- what was under way goes on


def test_the_report_on_storage_commitment_that_was_owed_commits_every_instance(site: Site) -> None:
    """The service looks into each file and compares its digest before it says so."""
    site.until(site.scanner.reported.is_set, "the scanner has the report")
    asked, report = MANIFEST["asked_commitment"], site.scanner.reports[0]
    assert report.TransactionUID == asked["transaction_uid"]
    assert "FailedSOPSequence" not in report
    assert sorted(item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence) == asked["sop_uids"]
    site.done(the_job("delivered", "commit", "retry-wait"))


@pytest.mark.parametrize(
    ("study", "kind", "state"),
    [
        ("unbegun", "infer", "ready"),
        ("superseded", "infer", "ready"),
        ("killed", "infer", "running"),
        ("receiving", "match", "receiving"),
        ("undelivered", "deliver", "ready"),
    ],
)
def test_a_job_that_was_not_done_is_done_and_its_result_sent(site: Site, study: str, kind: str, state: str) -> None:
    site.done(the_job(study, kind, state))
    site.delivered(study)


def test_a_delivery_that_waited_is_made_once_the_destination_is_up(site: Site, backup: Archive) -> None:
    job_id = the_job("retried", "deliver", "retry-wait")
    site.node("queue", "retry", str(job_id))
    site.done(job_id)
    assert_taken(backup, site.job(job_id))
    for row in deliveries(job_id):
        sent = dcmread(BytesIO(backup.received[row["sop_uid"]]), force=True)
        assert without_meta(sent) == without_meta(dcmread(site.before / "data" / row["path"]))


def test_a_delivery_sends_only_what_was_not_accepted(site: Site, backup: Archive) -> None:
    job_id = the_job("partly", "deliver", "retry-wait")
    site.node("queue", "retry", str(job_id))
    site.done(job_id)
    accepted = {row["sop_uid"]: row["accepted"] for row in deliveries(job_id)}
    assert set(accepted.values()) == {True, False}
    assert {uid for uid in accepted if uid in backup.received} == {uid for uid, had in accepted.items() if not had}


def test_a_failed_delivery_can_be_retried(site: Site, backup: Archive) -> None:
    job_id = the_job("failed", "deliver", "failed")
    site.node("queue", "retry", str(job_id))
    site.done(job_id)
    assert_taken(backup, site.job(job_id))


@pytest.mark.parametrize(("study", "kind"), [("held", "deliver"), ("kept back", "infer")])
def test_a_held_job_is_held_until_it_is_released(site: Site, study: str, kind: str) -> None:
    job_id = the_job(study, kind, "held")
    assert site.jobs(study)[job_id]["state"] == "held"
    assert not any(dcmread(BytesIO(c), force=True).StudyInstanceUID == STUDIES[study] for c in received(site.pacs))
    site.node("queue", "release", str(job_id))
    site.done(job_id)
    site.delivered(study)


def test_a_commitment_that_was_asked_for_is_reported(site: Site) -> None:
    job_id = the_job("committing", "deliver", "committing")
    (transaction_uid,) = (row["transaction_uid"] for row in MANIFEST["commitments"] if row["job_id"] == job_id)
    files = [dcmread(site.before / "data" / row["path"], stop_before_pixels=True) for row in deliveries(job_id)]
    items = [(str(ds.SOPClassUID), str(ds.SOPInstanceUID)) for ds in files]
    assert site.vault.report(site.ports["node"], transaction_uid, items) == 0
    site.done(job_id)
    assert not site.vault.received.keys() & {uid for _, uid in items}


def test_a_study_that_waited_for_its_partner_finds_it(site: Site) -> None:
    match = the_job("waiting", "match", "waiting-pair")
    assert site.jobs("waiting")[match]["state"] == "waiting-pair"
    assert set(site.scanner.send(site.ports["node"], sorted((site.before / "scanner").rglob("t1/*.dcm")))) == {0}
    site.done(match)
    site.delivered("waiting")


def test_nothing_is_sent_that_was_sent_before(site: Site) -> None:
    """Last, after all that goes on: each destination has only what it had not."""
    for name, archive in (("pacs", site.pacs), ("vault", site.vault), ("backup", site.backup)):
        finished = {n for n, job in JOBS.items() if (job["destination"], job["state"]) == (name, "done")}
        sent = {row["sop_uid"] for row in MANIFEST["deliveries"] if row["job_id"] in finished}
        assert not sent & archive.received.keys()
        assert set(archive.times.values()) <= {1}
    states = {n: job["state"] for n, job in site.jobs().items()}
    for study, kind, state in [("cancelled", "deliver", "cancelled"), ("superseded", "infer", "cancelled"),
                               ("refused", "match", "refused"), ("negative", "infer", "refused"),
                               ("fetching", "match", "waiting-pair"), ("fetching", "fetch", "retry-wait")]:  # fmt: skip
        assert states[the_job(study, kind, state)] == state
    assert [j["kind"] for j in site.jobs("kept").values()] == ["match", "infer"]
