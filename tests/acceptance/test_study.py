"""A study comes in over DICOM, its super-resolved T2 goes back to the PACS."""

import json
import re
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import MRImageStorage, RawDataStorage, generate_uid

from tests.conftest import free_port
from tests.dicom import enhanced, mr_series, study, write

from .conftest import Files, Orthanc, Site, dcmsend, send

pytestmark = pytest.mark.acceptance


def check_delivered(site: Site, pacs: Orthanc, files: Files) -> None:
    """The PACS has the derived series, whole and once, of the study sent."""
    site.finished(files.study_uid)
    derived = pacs.instances(files.study_uid)
    sources = {dcmread(p).SOPInstanceUID for p in files.t2}
    assert len(derived) == len(sources)
    assert {d.SourceImageSequence[0].ReferencedSOPInstanceUID for d in derived} == sources
    assert len({d.SeriesInstanceUID for d in derived}) == 1
    for d in derived:
        assert list(d.ImageType) == ["DERIVED", "SECONDARY", "OTHER", "AI", "SUPERRES"]
        assert (d.Rows, d.Columns) == (96, 128)
        assert d.SeriesDescription == "AI SR x4: t2"
        assert d.pixel_array.max() > 0
    (report,) = pacs.instances(files.study_uid, "SR")
    assert report.SeriesNumber == derived[0].SeriesNumber + 10000
    assert report.CompletionFlag == "COMPLETE"
    (job,) = site.jobs(files.study_uid, kind="deliver")[:1]
    site.node("queue", "report", str(job["id"]), "--html", str(site.folder / "report.html"))
    assert str(derived[0].SeriesInstanceUID) in (site.folder / "report.html").read_text()


@pytest.mark.parametrize("order", ["T1 first", "T2 first", "interleaved over two associations"])
def test_any_order_of_arrival(site: Site, pacs: Orthanc, files: Files, order: str) -> None:
    if order == "T1 first":
        send(site.port, *files.t1)
        send(site.port, *files.t2)
    elif order == "T2 first":
        send(site.port, *files.t2)
        send(site.port, *files.t1)
    else:
        one = dcmsend(site.port, *files.t1[::2], *files.t2[::2])
        two = dcmsend(site.port, *files.t2[1::2], *files.t1[1::2])
        assert one.wait() == two.wait() == 0
    check_delivered(site, pacs, files)


def test_the_same_study_twice_is_worked_on_once(site: Site, pacs: Orthanc, files: Files) -> None:
    send(site.port, *files.t1, *files.t2)
    check_delivered(site, pacs, files)
    before = site.jobs()
    send(site.port, *files.t1, *files.t2)
    assert site.jobs() == before, "what is acknowledged was recorded before: nothing can follow later"
    check_delivered(site, pacs, files)


def test_two_target_stacks_of_one_series_give_two_derived_series(site: Site, pacs: Orthanc, tmp_path: Path) -> None:
    t2, t1 = study()
    flair = {"ScanningSequence": ["SE", "IR"], "RepetitionTime": "9000", "EchoTime": "120", "InversionTime": "2500"}
    same = {"study_uid": t2[0].StudyInstanceUID, "frame_uid": t2[0].FrameOfReferenceUID, "series_number": 2}
    same |= {"series_uid": t2[0].SeriesInstanceUID}
    second = mr_series(4, **same, **flair, SeriesDescription="flair")
    for name, series in (("t2", t2), ("t1", t1), ("flair", second)):
        send(site.port, *write(series, tmp_path / name))
    site.finished(t2[0].StudyInstanceUID, count=7)
    found = {(d.SeriesNumber, d.SeriesDescription) for d in pacs.instances(t2[0].StudyInstanceUID)}
    assert found == {(9002, "AI SR x4: t2"), (10002, "AI SR x4: flair")}
    reports = {d.SeriesNumber for d in pacs.instances(t2[0].StudyInstanceUID, "SR")}
    assert reports == {19002, 20002}


def test_enhanced_mr_goes_the_same_way(site: Site, pacs: Orthanc, tmp_path: Path) -> None:
    """One file holds both echoes of the target, another the reference; the frames of the T2 echo are the sources."""
    t2, t1 = study(4)
    echoes = enhanced([*study(4, EchoTime="20")[0], *t2])
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(echoes, keyword, t2[0][keyword].value)
    send(site.port, *write([echoes], tmp_path / "t2"), *write([enhanced(t1)], tmp_path / "t1"))
    site.finished(t2[0].StudyInstanceUID)
    derived = sorted(pacs.instances(t2[0].StudyInstanceUID), key=lambda d: float(d.ImagePositionPatient[2]))
    sources = [[(i.ReferencedSOPInstanceUID, i.ReferencedFrameNumber) for i in d.SourceImageSequence] for d in derived]
    assert sources == [[(echoes.SOPInstanceUID, 5 + i), (t1[0].SOPInstanceUID, 1 + i)] for i in range(4)]
    assert {(d.SOPClassUID, d.EchoTime, d.Rows, d.Columns) for d in derived} == {(MRImageStorage, 100, 96, 128)}
    text = site.node("explain", t2[0].StudyInstanceUID)
    assert "series 2, TE 100 ms" in text


def test_its_own_output_coming_back_is_stored_and_not_processed(
    site: Site, pacs: Orthanc, files: Files, tmp_path: Path
) -> None:
    send(site.port, *files.t1, *files.t2)
    check_delivered(site, pacs, files)
    returned = write(pacs.instances(files.study_uid), tmp_path / "returned")
    send(site.port, *returned)
    site.until(
        lambda: len(site.jobs(files.study_uid)) == 4 and site.jobs(kind="match")[0]["state"] == "done", "matched again"
    )
    received = json.loads(site.node("status", "--json"))["received"]
    assert received["series"] == 3
    assert len(site.jobs()) == 4


def test_a_result_that_is_not_usable_is_held_until_it_is_released(tmp_path: Path, pacs: Orthanc, files: Files) -> None:
    site = Site(tmp_path, pacs.port)
    site.config.write_text("report = { hold = true, max_inconsistency = 1e-6 }\n" + site.config.read_text())
    site.start()
    try:
        send(site.port, *files.t1, *files.t2)
        (job,) = site.until(
            lambda: [j for j in site.jobs(kind="deliver") if j["state"] == "held"], "the delivery is held"
        )
        assert "graded not usable: 4 of 4 slices differ from the measured k-space" in job["summary"]
        assert pacs.instances(files.study_uid) == []
        site.node("queue", "report", str(job["id"]), "--html", str(tmp_path / "held.html"))
        assert "4 of 4 slices differ from the measured k-space" in (tmp_path / "held.html").read_text()
        site.node("queue", "release", str(job["id"]))
        check_delivered(site, pacs, files)
        events = json.loads(site.node("queue", "show", str(job["id"]), "--json"))["job"]["events"]
        assert [e["to"] for e in events] == ["held", "ready", "sending", "done"], "nothing was tried before the release"
        assert events[1]["why"] == "released by an administrator"
        site.node("queue", "hold", str(job["id"]), expect=1)  # it is done
    finally:
        site.stop()


def test_a_study_without_a_reference_waits_and_says_why(site: Site, files: Files) -> None:
    send(site.port, *files.t2)
    site.until(lambda: [j["state"] for j in site.jobs()] == ["waiting-pair"], "the study waits")
    (job,) = site.jobs()
    assert "T1" in job["error"]
    explanation = site.node("explain", files.study_uid)
    assert "E_NO_REFERENCE" in explanation
    assert "T1" in explanation
    assert json.loads(site.node("explain", files.study_uid, "--json"))["studies"][0]["outcome"] == "waiting"
    send(site.port, *files.t1)  # the reference comes after all
    site.finished(files.study_uid)
    explanation = site.node("explain", files.study_uid, "--short")
    for words in (
        "decided:",
        "history:",
        "infer: done",
        "Displacement of the reference",
        "Graded",
        "deliver to pacs: done",
    ):
        assert words in explanation
    (explained,) = json.loads(site.node("explain", files.study_uid, "--json"))["studies"]
    assert [(j["kind"], j["state"]) for j in explained["jobs"]] == [
        (k, "done") for k in ("match", "infer", "derive", "deliver")
    ]


def test_late_slices_supersede_what_was_made_without_them(site: Site, pacs: Orthanc, tmp_path: Path) -> None:
    files = Files(tmp_path / "scanner", slices=6)
    raw = dcmread(files.t1[0])
    raw.SOPClassUID = raw.file_meta.MediaStorageSOPClassUID = RawDataStorage
    raw.SOPInstanceUID = raw.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    send(site.port, *files.t1, *write([raw], tmp_path / "raw"), *files.t2[:4])
    site.finished(files.study_uid)
    send(site.port, *files.t2[4:])
    site.until(lambda: len(site.jobs(kind="infer")) == 2, "the whole series is asked for")
    site.finished(files.study_uid, count=7)
    series: dict[str, list[Dataset]] = {}
    for d in pacs.instances(files.study_uid):
        series.setdefault(d.SeriesInstanceUID, []).append(d)
    part, whole = sorted(series.values(), key=len)
    assert (len(part), len(whole)) == (4, 6), "the complete series is a series of its own"
    assert whole[0].SeriesNumber != part[0].SeriesNumber
    assert {d.SeriesDescription for d in whole} == {f"{part[0].SeriesDescription} (replaces {part[0].SeriesNumber})"}
    texts = [
        e.value
        for report in pacs.instances(files.study_uid, "SR")
        for e in report.iterall()
        if e.keyword == "TextValue"
    ]
    assert any(
        f"replaces derived series {part[0].SeriesNumber} ({part[0].SeriesInstanceUID})" in text for text in texts
    )
    assert json.loads(site.node("status", "--json"))["received"]["instances"] == 12, (
        "raw data is acknowledged, not kept"
    )


def test_the_pacs_is_down_for_a_while(site: Site, pacs: Orthanc, files: Files) -> None:
    pacs.stop()
    send(site.port, *files.t1, *files.t2)
    site.until(lambda: [j["state"] for j in site.jobs(kind="deliver")] == ["retry-wait"], "the delivery waits")
    (job,) = site.jobs(kind="deliver")
    assert "127.0.0.1" in job["error"]
    assert site.jobs(kind="infer")[0]["state"] == "done", "a PACS that is down does not hold the worker"
    pacs.start()
    check_delivered(site, pacs, files)


@pytest.mark.parametrize("method", ["get", "move"])
def test_a_reference_that_was_not_pushed_is_fetched(tmp_path: Path, files: Files, method: str) -> None:
    port = free_port()
    pacs = Orthanc(tmp_path / "pacs", node_port=port)
    fetch = f"""
            [fetch]
            ae_title = "PACS"
            host = "127.0.0.1"
            port = {pacs.port}
            method = "{method}"
            [[sources]]
            name = "scanner"
            ae_title = "SCANNER"
            [[sources]]
            name = "our own echo"
            ae_title = "ECHOSCU"
            [[destinations]]"""
    site = Site(tmp_path, pacs.port, port, **{"[[destinations]]": fetch})
    pacs.start()
    try:
        site.start()
        send(pacs.port, *files.t1)
        send(site.port, *files.t2)
        jobs = site.finished(files.study_uid, count=5)
        (fetched,) = [j for j in jobs if j["kind"] == "fetch"]
        assert fetched["summary"] == "fetched 4 instances of 1 series"
        assert len(pacs.instances(files.study_uid)) == 8, "the T1 and the derived series"
        for path in files.t1:
            (kept,) = (site.folder / "data" / "instances").rglob(f"{dcmread(path).SOPInstanceUID}.dcm")
            assert dcmread(kept) == dcmread(path)
    finally:
        assert site.stop() == 0
        pacs.stop()


def test_a_delivery_is_done_when_the_pacs_has_committed_it(tmp_path: Path, files: Files) -> None:
    """Orthanc reports on an association of its own."""
    port = free_port()
    pacs = Orthanc(tmp_path / "pacs", node_port=port)
    site = Site(tmp_path, pacs.port, port, **{"max_delay_s = 2": "max_delay_s = 2\n            commitment = true"})
    pacs.start()
    try:
        site.start()
        send(site.port, *files.t1, *files.t2)
        (job,) = [j for j in site.finished(files.study_uid) if j["kind"] == "deliver"]
        history = json.loads(site.node("queue", "show", str(job["id"]), "--json"))["job"]
        assert history["events"][-1]["why"] == "pacs has accepted and committed all 5 instances"
        assert {i["status"] for i in history["instances"]} == {"committed"}
        assert "commitment.reported" in site.log()
        assert "committed=5" in site.log() or '"committed": 5' in site.log()
        assert len(pacs.instances(files.study_uid)) == 4
    finally:
        assert site.stop() == 0
        pacs.stop()


def test_a_scanner_that_asks_for_storage_commitment(tmp_path: Path, files: Files) -> None:
    """Orthanc as scanner, also of what it has not sent. Killed before the report, the node owes it all the same."""
    port = free_port()
    scanner = Orthanc(tmp_path / "scanner-orthanc", node_port=port)
    source = f"""[[sources]]
            name = "scanner"
            ae_title = "PACS"
            host = "127.0.0.1"
            port = {scanner.port}
            [[sources]]
            name = "our own echo"
            ae_title = "ECHOSCU"
            [[destinations]]"""
    site = Site(tmp_path, free_port(), port, **{"[[destinations]]": source})
    scanner.start()
    try:
        site.start()
        sent = [json.loads(scanner.post("/instances", path.read_bytes()))["ID"] for path in files.t2]
        scanner.post("/modalities/node/store", json.dumps(sent).encode())
        asked = [[str(d.SOPClassUID), str(d.SOPInstanceUID)] for d in map(dcmread, files.t2)]
        not_sent = [str(MRImageStorage), "1.2.3"]
        request = {"DicomInstances": [*asked, not_sent]}
        answer = scanner.post("/modalities/node/storage-commitment", json.dumps(request).encode())
        site.kill()
        site.start()
        path = json.loads(answer)["Path"]
        site.until(lambda: json.loads(scanner.get(path))["Status"] != "Pending", "the report")
        report = json.loads(scanner.get(path))
        assert report["Status"] == "Failure"
        assert sorted(i["SOPInstanceUID"] for i in report["Success"]) == sorted(uid for _, uid in asked)
        assert [(i["SOPInstanceUID"], i["FailureReason"]) for i in report["Failures"]] == [("1.2.3", 0x0112)]
    finally:
        assert site.stop() == 0
        scanner.stop()


def test_postgresql_as_tracker(postgres: str, pacs: Orthanc, files: Files, tmp_path: Path) -> None:
    """Only the URL changes. Killed on the way, as on SQLite."""
    site = Site(
        tmp_path,
        pacs.port,
        **{'node.data_dir = "data"': f'node = {{ data_dir = "data", database_url = "{postgres % "postgres"}" }}'},
    )
    site.start()
    try:
        send(site.port, *files.t1, *files.t2)
        site.until(lambda: site.jobs(kind="infer"), "matched")
        site.kill()
        site.start()
        check_delivered(site, pacs, files)
    finally:
        assert site.stop() == 0


def test_a_burst_of_studies(site: Site, pacs: Orthanc, tmp_path: Path) -> None:
    studies = [Files(tmp_path / f"scanner{n}") for n in range(3)]
    senders = [dcmsend(site.port, *s.t2, *s.t1) for s in studies]
    assert [s.wait() for s in senders] == [0, 0, 0]
    for s in studies:
        check_delivered(site, pacs, s)


def test_tcp_probes_and_broken_associations_leave_the_node_well(site: Site, pacs: Orthanc, files: Files) -> None:
    import socket

    for payload in (b"", b"GET / HTTP/1.0\r\n\r\n", b"\x01\x00\x00\x00\x00\x44" + b"\x00" * 20, b"\xff" * 300):
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", site.port)) as probe:
                probe.sendall(payload)
    send(site.port, *files.t1, *files.t2)
    check_delivered(site, pacs, files)


def test_no_patient_data_in_log_listing_or_database_errors(site: Site, pacs: Orthanc, tmp_path: Path) -> None:
    patient = {"PatientName": "Geheim^Gustav", "PatientID": "SECRET-77"}
    send(site.port, *write(mr_series(4, **patient), tmp_path / "in"))
    # A name where a number belongs: libraries like to quote what they cannot convert.
    broken = write(mr_series(4, **patient, RepetitionTime="1234567890123"), tmp_path / "broken")
    for path in broken:
        path.write_bytes(path.read_bytes().replace(b"1234567890123", b"Geheim^Gustav"))
    send(site.port, *broken)
    site.until(
        lambda: len(site.jobs()) == 2 and all(j["state"] != "receiving" for j in site.jobs()), "both studies are judged"
    )
    shown = site.log() + site.node("queue", "list", "--json") + site.node("status")
    shown += "".join(
        site.node("queue", "show", str(j["id"])) + site.node("explain", j["study_uid"]) for j in site.jobs()
    )
    assert not re.search("geheim|gustav|secret-77", shown, re.IGNORECASE)
