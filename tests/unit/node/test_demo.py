"""The parts of the demonstration that its acceptance test, which finds Orthanc installed, does not reach."""

from pathlib import Path

import numpy as np
import pytest

from node.config.settings import DestinationSettings
from node.deliver.scu import send
from node.demo import figures, peers
from node.errors import NodeError
from tests.dicom import in_files


def test_without_orthanc_a_storage_scp_stands_in_for_the_pacs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.shutil, "which", lambda *_, **__: None)
    paths = sorted((figures.SAMPLE / "T2").glob("*.dcm"))
    with peers.running_pacs(tmp_path / "pacs") as pacs:
        assert "Orthanc is not installed" in pacs.name
        peer = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port)
        assert all(sent.accepted for sent in send(in_files(paths), peer, "SCANNER"))
        assert len(pacs.received()) == len(paths)


def test_slices_that_did_not_come_back_are_said() -> None:
    with pytest.raises(NodeError, match="0 of 8 slices"):
        figures.compare_with_truth([])


def test_the_picture_holds_every_image_and_its_error() -> None:
    truth = np.random.default_rng(0).random((3, 40, 50), dtype=np.float32)
    comparison = figures.Comparison(truth, {"zero-filled": truth * 0.9, "DiffMSR": truth})
    picture = np.asarray(comparison.picture())
    assert picture.shape[1] >= 3 * 50
    assert picture.shape[0] >= 2 * 40
