"""Sending, against dcmtk's storescp and peers that misbehave on purpose."""

import json
import socket
import ssl
import subprocess
import threading
import urllib.request
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.config.settings import DestinationSettings, OutputSettings, ReportSettings, TLSSettings
from node.deliver.scu import echo, send
from node.derived.encode import encode
from node.dicom.transfer_syntax import TRANSFER_SYNTAXES, to_bytes
from node.dimse.status import C_STORE, Verdict, words
from node.errors import ConfigError, PeerError, StorageError
from tests.dicom import in_files

from .sending import Serve, Start, encode_to


def kept_by(address: str) -> dict[str, pydicom.Dataset]:
    """What an Orthanc has, by SOP instance UID."""

    def get(path: str) -> bytes:
        with urllib.request.urlopen(f"{address}{path}") as answer:
            content: bytes = answer.read()
            return content

    stored = (pydicom.dcmread(BytesIO(get(f"/instances/{i}/file"))) for i in json.loads(get("/instances")))
    return {ds.SOPInstanceUID: ds for ds in stored}


@pytest.mark.parametrize("options", [("+xe",), ("+xi",)], ids=["explicit", "implicit only"])
def test_storescp_receives_what_was_made(storescp: Start, files: list[Path], options: tuple[str, ...]) -> None:
    destination, folder = storescp("-pdu", "16384", *options)
    sent = list(send(in_files(files), destination, "DIFFMSR"))
    assert [s.instance for s in sent] == in_files(files)
    assert {s.words for s in sent} == {"0x0000 (success)"}
    assert all(s.accepted for s in sent)
    received = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, folder.iterdir())}
    for path in files:
        original = pydicom.dcmread(path)
        arrived = received[original.SOPInstanceUID]
        expected = ImplicitVRLittleEndian if options == ("+xi",) else ExplicitVRLittleEndian
        assert arrived.file_meta.TransferSyntaxUID == expected
        assert arrived == original


COMPRESSED = {"jpeg_ls": "+xt", "jpeg_2000": "+xv", "rle": "+xr"}
"""storescp's option that takes the transfer syntax; without one it takes uncompressed instances only."""


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("options", ["compressed", "explicit", "implicit"])
def test_what_is_kept_compressed_goes_out_as_the_peer_takes_it(
    storescp: Start, study: Any, tmp_path: Path, name: Any, options: str
) -> None:
    paths = encode_to(tmp_path, study, OutputSettings(transfer_syntax=name))
    destination, folder = storescp({"compressed": COMPRESSED[name], "explicit": "+xe", "implicit": "+xi"}[options])
    assert {s.words for s in send(in_files(paths), destination, "DIFFMSR")} == {"0x0000 (success)"}
    expected = {
        "compressed": TRANSFER_SYNTAXES[name], "explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian
    }  # fmt: skip
    for arrived in map(pydicom.dcmread, folder.iterdir()):
        original = pydicom.dcmread(tmp_path / f"{arrived.SOPInstanceUID}.dcm")
        assert arrived.file_meta.TransferSyntaxUID == expected[options]
        assert np.array_equal(arrived.pixel_array, original.pixel_array)
        del arrived.PixelData, original.PixelData
        assert arrived == original
    assert len(list(folder.iterdir())) == len(paths)


@pytest.fixture
def objects(study: Any, tmp_path: Path) -> list[Path]:
    """Every kind of object the node makes: images of each SOP class, their marks and reports."""
    paths = []
    for kind in ("mr", "sc", "legacy_enhanced"):
        output = OutputSettings(sop_class=kind, presentation_state=True)  # type: ignore[arg-type]
        made = encode(study.result, [*study.target, *study.reference], output, ReportSettings(), 9005)
        for instance in made.instances:
            paths.append(tmp_path / f"{instance.SOPInstanceUID}.dcm")
            paths[-1].write_bytes(to_bytes(instance))
    return paths


def test_orthanc_returns_every_kind_of_object(orthanc: tuple[DestinationSettings, str], objects: list[Path]) -> None:
    destination, address = orthanc
    assert {sent.words for sent in send(in_files(objects), destination, "DIFFMSR")} == {"0x0000 (success)"}
    assert kept_by(address) == {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, objects)}


def test_storescp_returns_every_kind_of_object(storescp: Start, objects: list[Path]) -> None:
    destination, folder = storescp()
    assert {sent.words for sent in send(in_files(objects), destination, "DIFFMSR")} == {"0x0000 (success)"}
    received = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, folder.iterdir())}
    assert received == {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, objects)}


@pytest.mark.parametrize("name", COMPRESSED)
def test_orthanc_keeps_the_compressed_pixels(
    orthanc: tuple[DestinationSettings, str], study: Any, tmp_path: Path, name: Any
) -> None:
    destination, address = orthanc
    paths = encode_to(tmp_path, study, OutputSettings(transfer_syntax=name))
    assert all(sent.accepted for sent in send(in_files(paths), destination, "DIFFMSR"))
    stored = kept_by(address)
    assert stored == {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, paths)}
    assert {ds.file_meta.TransferSyntaxUID for ds in stored.values()} == {TRANSFER_SYNTAXES[name]}


def test_orthanc_keeps_pixels_and_attributes(orthanc: tuple[DestinationSettings, str], files: list[Path]) -> None:
    destination, address = orthanc
    echo(destination, "DIFFMSR")
    assert all(sent.accepted for sent in send(in_files(files), destination, "DIFFMSR"))
    assert kept_by(address) == {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, files)}


def test_no_answer_is_lost_under_load(serve: Serve, files: list[Path]) -> None:
    """pynetdicom's reactor stole one answer in a few hundred before they were handed back; each cost a DIMSE timeout."""
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=burn, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        received: list[str] = []
        destination = serve(lambda event: received.append(event.request.AffectedSOPInstanceUID) or 0)
        many = files * 20
        sent = list(send(in_files(many), destination, "DIFFMSR"))
    finally:
        stop.set()
    assert len(sent) == len(received) == len(many)


def test_echo_of_a_living_peer(storescp: Start) -> None:
    destination, _ = storescp()
    echo(destination, "DIFFMSR")


def test_closed_port_is_one_line_that_says_where_and_what_to_check(
    free_destination: DestinationSettings, files: list[Path]
) -> None:
    for attempt in (
        lambda: echo(free_destination, "DIFFMSR"),
        lambda: list(send(in_files(files), free_destination, "DIFFMSR")),
    ):
        with pytest.raises(PeerError) as failed:
            attempt()
        message = str(failed.value)
        for part in ("pacs", f"PACS at 127.0.0.1:{free_destination.port}", "DIFFMSR", "connection refused", "check"):
            assert part in message
        assert "\n" not in message


def test_wrong_called_ae_title(serve: Serve, files: list[Path]) -> None:
    destination = serve(require_called=True).model_copy(update={"ae_title": "OTHER"})
    with pytest.raises(PeerError, match="rejected permanent: called ae title not recognised"):
        list(send(in_files(files), destination, "DIFFMSR"))


def test_a_port_that_is_not_dicom(files: list[Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        destination = DestinationSettings(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=mute.getsockname()[1], timeout_s=0.5
        )
        with pytest.raises(PeerError, match=r"no answer to the association request within 0\.5 s"):
            list(send(in_files(files), destination, "DIFFMSR"))


def test_a_peer_that_takes_no_mr(serve: Serve, files: list[Path]) -> None:
    destination = serve(abstract_syntax="1.2.840.10008.5.1.4.1.1.7")
    with pytest.raises(PeerError, match="does not accept MR Image Storage"):
        list(send(in_files(files), destination, "DIFFMSR"))


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0xB000, Verdict.ACCEPTED), (0xB006, Verdict.ACCEPTED), (0xB007, Verdict.ACCEPTED), (0xA700, Verdict.RETRY),
        (0xA7FE, Verdict.RETRY), (0xA900, Verdict.REFUSED), (0xC000, Verdict.REFUSED), (0xC123, Verdict.REFUSED),
        (0x0110, Verdict.RETRY), (0x0122, Verdict.REFUSED),
    ],
    ids=lambda value: f"{value:#06x}" if isinstance(value, int) else value.value,
)  # fmt: skip
def test_every_instance_gets_its_own_verdict(serve: Serve, files: list[Path], status: int, verdict: Verdict) -> None:
    bad = files[1].stem
    destination = serve(lambda event: status if event.request.AffectedSOPInstanceUID == bad else 0)
    sent = list(send(in_files(files), destination, "DIFFMSR"))
    assert [s.status for s in sent] == [0, status, 0]
    assert [s.verdict for s in sent] == [Verdict.ACCEPTED, verdict, Verdict.ACCEPTED]
    assert sent[1].words.startswith(f"0x{status:04X} (")


def test_a_poisonous_instance_does_not_hold_up_the_others(serve: Serve, files: list[Path]) -> None:
    bad = files[0].stem

    def answer(event: Any) -> int:
        if event.request.AffectedSOPInstanceUID == bad:
            event.assoc.abort()
        return 0

    accepted = []
    with pytest.raises(PeerError, match="broke 3 times without an answer, 1 instances are not sent"):
        for sent in send(in_files(files), serve(answer), "DIFFMSR"):
            accepted.append(sent.sop_uid)
    assert set(accepted) == {path.stem for path in files[1:]}


def test_an_association_that_breaks_once_is_taken_up_again(serve: Serve, files: list[Path]) -> None:
    seen: list[str] = []

    def answer(event: Any) -> int:
        seen.append(event.request.AffectedSOPInstanceUID)
        if len(seen) == 2:
            event.assoc.abort()
        return 0

    sent = list(send(in_files(files), serve(answer), "DIFFMSR"))
    assert all(s.accepted for s in sent)
    assert {s.instance for s in sent} == set(in_files(files))
    assert len(seen) == 4


def test_a_peer_that_never_answers_is_given_up(serve: Serve, files: list[Path]) -> None:
    over = threading.Event()
    destination = serve(lambda _: over.wait() and 0).model_copy(update={"timeout_s": 2})
    with pytest.raises(PeerError, match="no answer to a C-STORE within 2 s, 3 instances are not sent"):
        list(send(in_files(files), destination, "DIFFMSR"))
    over.set()


def test_a_missing_file_is_the_archives_failure(free_destination: DestinationSettings, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone\.dcm"):
        list(send(in_files([tmp_path / "gone.dcm"]), free_destination, "DIFFMSR"))


def test_statuses_are_said_in_words() -> None:
    assert words(C_STORE, 0xA701) == "0xA701 (out of resources)"
    assert words(C_STORE, 0x1234) == "0x1234 (a status that the service does not define)"


@pytest.fixture
def certificates(tmp_path: Path) -> TLSSettings:
    """A certificate for 127.0.0.1 that is its own authority, for both sides."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", key,
         "-out", cert, "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return TLSSettings(cert_file=cert, key_file=key, ca_file=cert)


@pytest.fixture
def server_context(certificates: TLSSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca_file)
    context.load_cert_chain(certificates.cert_file, certificates.key_file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_tls_both_ways(
    serve: Serve, files: list[Path], certificates: TLSSettings, server_context: ssl.SSLContext
) -> None:
    destination = serve(context=server_context, tls=certificates)
    assert all(sent.accepted for sent in send(in_files(files), destination, "DIFFMSR"))


def test_tls_with_an_authority_we_do_not_trust(
    serve: Serve, certificates: TLSSettings, server_context: ssl.SSLContext
) -> None:
    destination = serve(context=server_context, tls=certificates.model_copy(update={"ca_file": None}))
    with pytest.raises(PeerError, match="the TLS handshake failed"):
        echo(destination, "DIFFMSR")


def test_tls_without_its_key(free_destination: DestinationSettings, certificates: TLSSettings, tmp_path: Path) -> None:
    tls = certificates.model_copy(update={"key_file": tmp_path / "none.pem"})
    with pytest.raises(ConfigError, match=r"none\.pem"):
        echo(free_destination.model_copy(update={"tls": tls}), "DIFFMSR")
