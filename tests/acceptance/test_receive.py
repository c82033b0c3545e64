"""Receiving from real peers on both data paths: what dcmtk and Orthanc send is kept as sent, also when the node is killed."""

import json
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.acceptance.conftest import Files, Orthanc
from tests.conftest import require
from tests.hostile.conftest import Node


@pytest.mark.parametrize("data_path", ["fast", "stock"])
def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path, data_path: str) -> None:
    files = Files(tmp_path / "scanner", slices=12)
    sent = {str(dcmread(path).SOPInstanceUID): dcmread(path).PixelData for path in [*files.t1, *files.t2]}
    node = Node(tmp_path / "node", scp=f'data_path = "{data_path}"')
    pacs = Orthanc(tmp_path / "pacs", node.port)
    pacs.start()
    instances = [json.loads(pacs.post("/instances", path.read_bytes()))["ID"] for path in files.t1]
    answer = json.loads(pacs.post("/modalities/node/store", json.dumps(instances).encode()))
    assert (answer["InstancesCount"], answer["FailedInstancesCount"]) == (12, 0)

    acknowledged = {str(dcmread(path).SOPInstanceUID) for path in files.t1}
    command = [require("storescu"), "-v", "-aet", "SCANNER", "127.0.0.1", str(node.port), *files.t2]
    scanner = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert scanner.stdout is not None
    names = iter(files.t2)
    for line in scanner.stdout:
        if "Received Store Response (Success)" in line:
            acknowledged.add(str(dcmread(next(names)).SOPInstanceUID))
            if len(acknowledged) == 18:
                node.kill()
    assert scanner.wait() != 0, "the kill came in the middle"

    node.start()
    stored = node.stored()
    assert acknowledged <= stored.keys() <= sent.keys()
    assert all(content.endswith(sent[uid]) for uid, content in stored.items())
    subprocess.run(command, check=True, capture_output=True)
    assert node.stop() == 0
    assert node.stored().keys() == sent.keys()
    assert {path.stem for path in (tmp_path / "node" / "data" / "instances").rglob("*.dcm")} == sent.keys()
    assert not list((tmp_path / "node" / "data" / "incoming").rglob("*.log")), "the log gave its room back"
    pacs.stop()
