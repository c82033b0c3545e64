"""The command line as an administrator meets it: exit codes, messages, JSON."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread

from node.config.loading import template
from tests.conftest import free_port
from tests.dicom import mr_series, write
from tests.program import PROGRAM
from tests.waiting import until

from .conftest import Files, Orthanc, Site, echo, run_node, send

pytestmark = pytest.mark.acceptance

SAMPLE = Path(__file__).parents[2] / "node" / "demo" / "sample"


def one_line_error(done: "subprocess.CompletedProcess[str]", exit_code: int) -> str:
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr.strip()


def test_help_and_version() -> None:
    assert "start" in run_node("--help").stdout
    assert "research use only" in run_node("version").stdout
    assert run_node("no-such-command").returncode == 2
    assert run_node("queue", "show", "not-a-number").returncode == 2


def test_init_writes_a_configuration_that_checks_and_starts(tmp_path: Path) -> None:
    config = tmp_path / "site" / "node.toml"
    done = run_node("init", "--config", str(config), "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    assert "[scp] ae_title and [[destinations]]" in done.stdout
    assert (tmp_path / "data" / "tracker.sqlite3").exists()
    checked = run_node("config", "check", "--config", str(config))
    assert checked.returncode == 0
    assert "no [[destinations]] are configured" in checked.stdout
    assert "already" in one_line_error(run_node("init", "--config", str(config)), 3)
    shown = json.loads(run_node("config", "show", "--json", "--config", str(config)).stdout)
    assert shown["scp"]["port"] == 11112
    assert json.loads(run_node("queue", "list", "--json", "--config", str(config)).stdout) == {"schema": 1, "jobs": []}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[scp]\nprot = 11112", r"[scp] prot: unknown key"),
        ("[scp]\nport = 70000", "[scp] port:"),
        ("[scp]\nae_title = 'A TITLE FAR TOO LONG'", "16 printable"),
        ("[[destinations]]\nname = 'a'\nae_title = 'A'\nhost = 'h'\n" * 2, "used twice"),
        ("[scp\n", "not valid TOML"),
        ("[model]\npath = 'nowhere'", "nowhere"),
        ("[node]\ndatabase_url = 'mysteriousdb://x'", "database_url"),
        ("[match]\ntargets = ['T7']", "[match] targets"),
        ("[node]\ndata_dir = '/etc/passwd/data'", "[node] data_dir: cannot make"),
    ],
)
def test_a_wrong_configuration_says_where_and_what(tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "node.toml"
    config.write_text(text)
    command = ("start",) if "[node]" in text else ("config", "check")
    assert says in one_line_error(run_node(*command, "--config", str(config)), 3)


def test_no_configuration_says_how_to_make_one(tmp_path: Path) -> None:
    assert "diffmsr-node init" in one_line_error(run_node("start", "--config", str(tmp_path / "none.toml")), 3)


def test_the_documented_configuration_is_the_default_one(tmp_path: Path) -> None:
    """Every key of config/node.toml has its default value there."""
    from node.config.loading import load_settings
    from node.config.settings import Settings

    config = tmp_path / "node.toml"
    config.write_text(template())
    assert load_settings(config).model_dump() == Settings().model_dump()


def test_conformance_prints_the_statement(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text("scp.ae_title = 'SITE'")
    done = run_node("conformance", "--config", str(config))
    assert done.stdout.startswith("# DICOM conformance statement")
    facts = json.loads(run_node("conformance", "--json", "--config", str(config)).stdout)
    assert facts["application_entity"]["ae_title"] == "SITE"


def test_status_says_that_the_service_is_not_running(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    run_node("init", "--config", str(config), "--data-dir", str(tmp_path / "data"))
    done = run_node("status", "--json", "--config", str(config))
    assert done.returncode == 7
    assert json.loads(done.stdout)["running"] is False


def test_status_echo_and_a_second_start(site: Site, pacs: Orthanc) -> None:
    status = json.loads(site.node("status", "--json"))
    assert status["running"] is True
    assert set(status["roles"]) == {"receive", "match", "infer", "deliver", "housekeep", "web"}
    assert "PACS" in site.node("echo", "pacs")
    assert "known: pacs" in one_line_error(run_node("echo", "other", "--config", str(site.config)), 4)
    assert "already running" in one_line_error(run_node("start", "--config", str(site.config)), 1)
    pacs.stop()
    assert str(pacs.port) in one_line_error(run_node("echo", "pacs", "--config", str(site.config)), 5)
    pacs.start()


def test_queue_cancel_retry_and_what_is_not_there(site: Site, pacs: Orthanc, files: Files) -> None:
    pacs.stop()
    send(site.port, *files.t1, *files.t2)
    site.until(lambda: [j["state"] for j in site.jobs(kind="deliver")] == ["retry-wait"], "the delivery waits")
    job = str(site.jobs(kind="deliver")[0]["id"])

    def cancel(option: str) -> str:
        """What it says; nothing while an attempt is made, when no job can be cancelled."""
        return run_node("queue", "cancel", job, option, "--config", str(site.config)).stdout

    assert "would cancel" in site.until(lambda: cancel("--dry-run"), "a dry run between two attempts")
    site.until(lambda: cancel("--yes"), "cancelled between two attempts")
    pacs.start()
    assert site.jobs(kind="deliver")[0]["state"] == "cancelled"
    site.node("queue", "retry", job)
    site.finished(files.study_uid)
    assert "cancelled by an administrator" in site.node("queue", "show", job, "--json")
    assert "queue list" in one_line_error(run_node("queue", "retry", "999", "--config", str(site.config)), 4)
    assert "999" in one_line_error(run_node("queue", "show", "999", "--config", str(site.config)), 4)
    assert f"queue resend {job}" in one_line_error(run_node("queue", "retry", job, "--config", str(site.config)), 1)
    assert "no study 1.2.3" in one_line_error(run_node("explain", "1.2.3", "--config", str(site.config)), 4)


def test_a_result_is_sent_again_on_request(site: Site, pacs: Orthanc, files: Files) -> None:
    send(site.port, *files.t1, *files.t2)
    site.finished(files.study_uid)
    (job,) = site.jobs(kind="deliver")
    assert f"job {job['id']} to pacs is ready" in site.node("queue", "resend", str(job["id"]))
    site.finished(files.study_uid)
    (again,) = json.loads(site.node("queue", "resend", files.study_uid, "--to", "pacs", "--json"))["deliveries"]
    assert (again["job_id"], again["destination"]) == (job["id"], "pacs")
    site.finished(files.study_uid)
    history = json.loads(site.node("queue", "show", str(job["id"]), "--json"))["job"]["events"]
    assert [event["why"] for event in history].count("redelivery requested by an administrator") == 2
    assert len(pacs.instances(files.study_uid)) == 4
    assert "known: pacs" in one_line_error(
        run_node("queue", "resend", str(job["id"]), "--to", "other", "--config", str(site.config)), 4
    )
    assert "no study 1.2.3" in one_line_error(run_node("queue", "resend", "1.2.3", "--config", str(site.config)), 4)


def test_replay_of_a_received_study(site: Site, files: Files, tmp_path: Path) -> None:
    """The service's own result comes out again, byte for byte, and nothing of it is touched."""
    send(site.port, *files.t1, *files.t2)
    site.finished(files.study_uid)
    site.stop()
    data = site.folder / "data"
    before = {
        p: p.stat().st_mtime_ns for folder in ("instances", "results", "derived") for p in (data / folder).rglob("*")
    }
    assert before
    jobs = site.jobs()
    replayed = site.node("replay", files.study_uid, "--output", str(tmp_path / "again"))
    assert f"Study {files.study_uid}: the same" in replayed
    assert "4 the same byte for byte" in replayed
    modalities = [dcmread(path).Modality for path in (tmp_path / "again").rglob("*.dcm")]
    assert sorted(modalities) == ["MR"] * len(files.t2) + ["SR"]
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert site.jobs() == jobs

    # Another rule, another output: the answer that changed, and the series that did.
    site.config.write_text(
        site.config.read_text() + "\n[match.pairing]\nwarn_spacing_ratio = 0.5\n[output]\nseries_number_offset = 5000\n"
    )
    told = json.loads(site.node("replay", files.study_uid, "--json", expect=8))
    (study,) = told["studies"]
    assert not study["identical"]
    assert [(a["question"], a["now"]["code"]) for a in study["answers"]] == [("reference detail", "W_REFERENCE_COARSE")]
    images, report = sorted(study["series"], key=lambda series: series["pixels"] is None)
    assert (images["identical"], images["different"], images["pixels"]["largest"]) == (0, 4, 0)
    assert {"name": "SeriesNumber", "kept": "9002", "now": "5002"} in images["attributes"]
    assert (report["identical"], report["different"], report["only_now"]) == (0, 1, 0)
    assert "no study 1.2.3" in one_line_error(run_node("replay", "1.2.3", "-c", str(site.config)), 4)
    assert run_node("replay", str(files.t1[0].parent), "-c", str(site.config)).returncode == 2


def test_roles_on_their_own(tmp_path: Path, files: Files) -> None:
    """Receiving without the other roles: what came is there when they start."""
    site = Site(tmp_path, free_port())
    environment = {"DIFFMSR_NODE_CONFIG": str(site.config)}
    assert run_node("start", "--role", "nonsense", environment=environment).returncode == 2
    site.start()
    assert site.stop() == 0
    receiver = subprocess.Popen([PROGRAM, "start", "--role", "receive", "-c", site.config], stderr=subprocess.DEVNULL)
    try:
        until(lambda: echo(site.port, "DIFFMSR"), "the receiver answers")
        send(site.port, *files.t2)
        assert [j["state"] for j in site.jobs()] == ["receiving"]
    finally:
        receiver.terminate()
        assert receiver.wait() == 0


# ---------------------------------------------------------------------- process, explain, demo


def test_process_gives_the_same_bytes_every_time(tmp_path: Path) -> None:
    outputs = []
    for name in ("one", "two"):
        done = run_node("process", str(SAMPLE), "--output", str(tmp_path / name), "--json")
        assert done.returncode == 0, done.stderr
        (result,) = json.loads(done.stdout)["results"]
        assert (result["state"], result["instances"]) == ("done", 8)
        assert Path(result["report"]).parent == Path(result["output"])
        assert "Super-resolution report" in Path(result["report"]).read_text()
        outputs.append({p.name: p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()})
    assert outputs[0] == outputs[1]
    assert sorted(Path(name).suffix for name in outputs[0]) == [".dcm"] * 9 + [".html"], "8 images, report and page"


def test_process_does_what_it_can_and_says_so(tmp_path: Path) -> None:
    shutil.copytree(SAMPLE, tmp_path / "in" / "good")
    write(mr_series(5), tmp_path / "in" / "lonely")
    done = run_node("process", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--json")
    assert done.returncode == 6
    assert sorted(r["state"] for r in json.loads(done.stdout)["results"]) == ["done", "refused"]


def test_process_on_nothing(tmp_path: Path) -> None:
    assert "not a folder" in one_line_error(run_node("process", str(tmp_path / "no"), "-o", str(tmp_path / "out")), 4)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.txt").write_text("hello")
    message = one_line_error(run_node("process", str(tmp_path / "empty"), "-o", str(tmp_path / "out")), 4)
    assert "no DICOM file" in message


def test_process_on_damaged_pixels_refuses_with_a_sentence(tmp_path: Path) -> None:
    shutil.copytree(SAMPLE, tmp_path / "in")
    victim = dcmread(tmp_path / "in" / "T2" / "03.dcm")
    victim.PixelData = victim.PixelData[: len(victim.PixelData) // 2]
    victim.save_as(tmp_path / "in" / "T2" / "03.dcm")
    done = run_node("process", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--json")
    assert done.returncode == 1
    (result,) = json.loads(done.stdout)["results"]
    assert result["state"] == "refused"
    assert result["code"].startswith("E_PIXELS")
    assert not (tmp_path / "out").exists(), "nothing half done"


def test_vendor_files_are_refused_with_code_and_sentence(shared_data: Path, tmp_path: Path) -> None:
    for folder in sorted((shared_data / "vendor_dicom").iterdir()):
        done = run_node("process", str(folder), "-o", str(tmp_path / "out"), "--json")
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        for result in json.loads(done.stdout)["results"]:
            assert result["state"] == "refused"
            assert result["code"].startswith("E_")
            assert result["sentence"].endswith(".")
        assert run_node("explain", str(folder)).returncode == 0


def test_the_demo(tmp_path: Path) -> None:
    done = run_node("demo", "--open", "--output", str(tmp_path / "out"), environment={"BROWSER": "true"})
    assert done.returncode == 0, done.stderr
    for words in ("viewer: http://127.0.0.1:", "Job timeline", "zero-filled", "bicubic", "DiffMSR", "before and after"):
        assert words in done.stdout
    assert (tmp_path / "out" / "before-after.png").stat().st_size > 100_000
    assert len(list((tmp_path / "out" / "derived").glob("*.dcm"))) == 9, "8 images and the report on them"
    assert "Super-resolution report" in (tmp_path / "out" / "report.html").read_text()
