"""The storage SCP over the wire, against dcmtk's senders."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    MRImageStorage,
)
from pynetdicom import AE
from structlog.testing import capture_logs

from node.archive.facade import Archive
from node.config.settings import SCPSettings, SourceSettings
from node.receive.commitment_scp import Commitments
from node.receive.policy import configured_callers
from node.receive.server import Receiver
from node.receive.store import Store
from node.tracker.handle import Tracker
from tests.conftest import require
from tests.dicom import mr_series, write
from tests.unit.node.receive.storing import WAYS, store_that_keeps, stored


@pytest.fixture(params=WAYS)
def store(request: pytest.FixtureRequest, archive: Archive, tracker: Tracker) -> Iterator[Store]:
    with store_that_keeps(request.param, archive, tracker) as made:
        yield made


def send(program: str, port: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TCP_NODELAY": "1"}
    command = [require(program), *map(str, arguments)]
    at = command.index("PEER")
    command[at : at + 1] = ["127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_c_echo(receiver: Receiver) -> None:
    assert send("echoscu", receiver.port, "PEER").returncode == 0


def test_dcmsend_and_storescu_of_dcmtk(receiver: Receiver, archive: Archive, tmp_path: Path) -> None:
    write(mr_series(5), tmp_path / "out")
    write(mr_series(5), tmp_path / "out2")
    assert send("dcmsend", receiver.port, "PEER", "+sd", tmp_path / "out").returncode == 0
    assert send("storescu", receiver.port, "+sd", "PEER", tmp_path / "out2").returncode == 0
    assert len(stored(archive)) == 10
    assert {dcmread(p).file_meta.TransferSyntaxUID for p in stored(archive)[:5]} == {ExplicitVRLittleEndian}


@pytest.mark.parametrize(
    ("encoder", "arguments", "syntax"),
    [
        ("dcmcrle", (), "1.2.840.10008.1.2.5"),
        ("dcmcjpls", (), "1.2.840.10008.1.2.4.80"),
        ("dcmcjpeg", ("+e1",), "1.2.840.10008.1.2.4.70"),
        ("dcmconv", ("+ti",), "1.2.840.10008.1.2"),
        ("dcmconv", ("+tb",), "1.2.840.10008.1.2.2"),
        ("dcmconv", ("+td",), "1.2.840.10008.1.2.1.99"),
    ],
)
def test_other_transfer_syntaxes_are_stored_as_received(
    receiver: Receiver, archive: Archive, tmp_path: Path, encoder: str, arguments: tuple[str, ...], syntax: str
) -> None:
    (original,) = mr_series(1)
    (path,) = write([original], tmp_path / "in")
    encoded = tmp_path / "encoded.dcm"
    subprocess.run([require(encoder), *arguments, path, encoded], check=True, capture_output=True)
    propose = {"1.2.840.10008.1.2": "-xi", "1.2.840.10008.1.2.2": "-xb", "1.2.840.10008.1.2.1.99": "-xd",
               "1.2.840.10008.1.2.5": "-xr", "1.2.840.10008.1.2.4.80": "-xt", "1.2.840.10008.1.2.4.70": "-xs"}[syntax]  # fmt: skip
    answer = send("storescu", receiver.port, "-R", propose, "PEER", encoded)
    assert answer.returncode == 0, answer.stderr
    (kept,) = stored(archive)
    assert dcmread(kept).file_meta.TransferSyntaxUID == syntax
    if syntax == JPEGLosslessSV1:  # no plugin with a free licence decodes it for pydicom
        subprocess.run([require("dcmdjpeg"), kept, encoded], check=True)
        kept = encoded
    assert np.array_equal(dcmread(kept).pixel_array, original.pixel_array)


def test_only_configured_sources_may_send(
    settings: SCPSettings, store: Store, commitments: Commitments, tmp_path: Path, archive: Archive
) -> None:
    sources = [SourceSettings(name="mr1", ae_title="MR1"), SourceSettings(name="mr2", ae_title="MR2", host="192.0.2.1")]
    receiver = Receiver(settings, configured_callers(sources), store, commitments)
    receiver.start()
    try:
        (path,) = write(mr_series(1), tmp_path / "in")
        assert send("storescu", receiver.port, "-aet", "STRANGER", "PEER", path).returncode != 0
        assert send("storescu", receiver.port, "-aet", "MR2", "PEER", path).returncode != 0, "right title, wrong host"
        assert stored(archive) == []
        assert send("storescu", receiver.port, "-aet", "MR1", "PEER", path).returncode == 0
        assert len(stored(archive)) == 1
    finally:
        receiver.stop(1)


@pytest.mark.parametrize(
    ("changes", "called", "says"),
    [
        ({"require_called_ae_title": True}, "OTHER", "it calls OTHER, not DIFFMSR"),
        ({}, "DIFFMSR", "its AE title is not among the [[sources]]"),
        ({"max_associations": 1}, "DIFFMSR", "1 associations are open already"),
    ],
    ids=["wrong called AE title", "unknown calling AE title", "too many"],
)
def test_a_rejection_says_why_and_what_to_check(
    settings: SCPSettings, store: Store, commitments: Commitments, changes: dict[str, Any], called: str, says: str
) -> None:
    sources = [] if "max_associations" in changes else [SourceSettings(name="mr1", ae_title="MR1")]
    receiver = Receiver(settings.model_copy(update=changes), configured_callers(sources), store, commitments)
    receiver.start()
    ae = AE("MR1" if "require_called_ae_title" in changes else "STRANGER")
    ae.add_requested_context(MRImageStorage)
    try:
        with capture_logs() as logs:
            first = ae.associate("127.0.0.1", receiver.port, ae_title=called)
            assert first.is_established == ("max_associations" in changes)
            second = ae.associate("127.0.0.1", receiver.port, ae_title=called)
            assert not second.is_established  # whether pynetdicom calls it rejected or aborted is its own race
            if first.is_established:
                first.release()
    finally:
        receiver.stop(1)
    rejections = [line for line in logs if line["event"] == "association.rejected"]
    assert rejections[-1]["reason"] == says
    assert rejections[-1]["check"]
    assert rejections[-1]["source"] == ae.ae_title


def test_sop_classes_that_are_not_taken_are_named(receiver: Receiver) -> None:
    ae = AE("MR1")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.2.2.1")
    with capture_logs() as logs:
        ae.associate("127.0.0.1", receiver.port)
    (line,) = [line for line in logs if line["event"] == "association.without_use"]
    assert line["names"] == ["Study Root Query/Retrieve Information Model - FIND"]
    assert "diffmsr-node conformance" in line["check"]


def test_an_instance_without_end_does_not_fill_memory(
    settings: SCPSettings, store: Store, commitments: Commitments, tmp_path: Path, archive: Archive
) -> None:
    receiver = Receiver(settings.model_copy(update={"max_instance_mb": 1}), [], store, commitments)
    receiver.start()
    try:
        small, large = write([*mr_series(1), *mr_series(1, rows=1000, columns=1000)], tmp_path / "in")
        several = write(mr_series(5, rows=500, columns=500), tmp_path / "several")
        assert send("storescu", receiver.port, "PEER", large).returncode != 0
        assert stored(archive) == []
        assert send("storescu", receiver.port, "PEER", small, *several).returncode == 0, "the limit is for each"
        assert len(stored(archive)) == 6
    finally:
        receiver.stop(1)


def test_a_port_that_is_taken_is_one_clear_error(receiver: Receiver, store: Store, commitments: Commitments) -> None:
    second = Receiver(SCPSettings(host="127.0.0.1", port=receiver.port), [], store, commitments)
    with pytest.raises(Exception, match=r"cannot listen on 127.0.0.1:\d+.*\[scp\] port"):
        second.start()
