"""The service is killed or stopped in the middle of its work, and nothing that it acknowledged is lost."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.conftest import free_port, require
from tests.waiting import until

from .conftest import Files, Orthanc, Site, echo, send

pytestmark = pytest.mark.acceptance


def test_killed_while_receiving(site: Site, pacs: Orthanc, tmp_path: Path) -> None:
    """Whatever was acknowledged before the power went is there afterwards; the scanner sends the rest again."""
    files = Files(tmp_path / "scanner", slices=60)
    command = [require("storescu"), "-v", "-aet", "SCANNER", "-aec", "DIFFMSR", "127.0.0.1", str(site.port)]
    scanner = subprocess.Popen(
        [*command, *files.t2, *files.t1], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert scanner.stdout is not None
    lines = []
    acknowledged = 0
    for line in scanner.stdout:
        lines.append(line)
        acknowledged += "Received Store Response (Success)" in line
        if acknowledged == 25:
            site.kill()
            break
    lines += scanner.stdout.readlines()
    scanner.wait()
    acknowledged = sum("Received Store Response (Success)" in line for line in lines)
    assert 25 <= acknowledged < 120, "the kill came in the middle"
    site.start()
    stored = json.loads(site.node("status", "--json"))["received"]["instances"]
    assert stored >= acknowledged
    kept = {p.stem for p in (site.folder / "data" / "instances").rglob("*.dcm")}
    sent_first = [str(dcmread(p).SOPInstanceUID) for p in files.t2][:25]
    assert set(sent_first) <= kept
    for path in (site.folder / "data" / "instances").rglob("*.dcm"):
        assert np.any(dcmread(path).pixel_array), "whole files only"
    send(site.port, *files.t2, *files.t1)
    site.finished(files.study_uid)
    assert len(pacs.instances(files.study_uid)) == 60


def test_killed_while_inferring(site: Site, pacs: Orthanc, tmp_path: Path) -> None:
    files = Files(tmp_path / "scanner", slices=80)
    send(site.port, *files.t1, *files.t2)
    site.until(lambda: site.seen("infer", "running"), "the worker is at it")
    site.kill()
    site.start()
    assert "rescued" in site.log() or "recovered" in site.log()
    site.finished(files.study_uid)
    assert len(pacs.instances(files.study_uid)) == 80


def test_killed_while_delivering(tmp_path: Path) -> None:
    """dcmtk's storescp as a slow PACS, so that the kill comes between two instances."""
    files = Files(tmp_path / "scanner", slices=16)
    port, kept = free_port(), tmp_path / "kept"
    kept.mkdir()
    command = [require("storescp"), "--sleep-after", "1", "-aet", "PACS", "-od", kept, str(port)]
    slow_pacs = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    site = Site(tmp_path, port)
    try:
        until(lambda: echo(port, "PACS"), "storescp answers")
        site.start()
        send(site.port, *files.t1, *files.t2)
        site.until(lambda: list(kept.iterdir()), "the first instance is there")
        site.kill()
        assert len(list(kept.iterdir())) < len(files.t2)
        site.start()
        (job,) = [j for j in site.finished(files.study_uid) if j["kind"] == "deliver"]
        shown = json.loads(site.node("queue", "show", str(job["id"]), "--json"))["job"]
        assert all(i["accepted"] for i in shown["instances"])
        uids = [str(dcmread(p).SOPInstanceUID) for p in kept.iterdir()]
        assert len(uids) == len(set(uids)) == len(files.t2) + 1, "the images and their report"
        assert site.stop() == 0
    finally:
        slow_pacs.kill()
        if site.process is not None and site.process.poll() is None:
            site.kill()


def test_a_stop_drains_and_exits_0(site: Site, pacs: Orthanc, tmp_path: Path) -> None:
    files = Files(tmp_path / "scanner", slices=80)
    send(site.port, *files.t1, *files.t2)
    site.until(lambda: site.seen("infer", "running"), "the worker is at it")
    assert site.stop() == 0
    (job,) = site.jobs(kind="infer")
    assert job["state"] in ("ready", "done"), "given back or finished, not left leased"
    site.start()
    site.finished(files.study_uid)
    assert len(pacs.instances(files.study_uid)) == 80
