"""The test series: what a destination makes of it is said, with how to remove it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.checks import Check, Level
from node.config.settings import DestinationSettings, NodeSettings, Settings
from node.doctor.trial import PATIENT_ID, marked_image, trials
from node.identity import is_ours
from tests.conftest import free_port
from tests.migration.peers import Archive


@pytest.fixture
def archive() -> Iterator[Archive]:
    """A peer that stores and commits, and knows no C-FIND."""
    peer = Archive("PACS", free_port()).start()
    yield peer
    peer.stop()


def tried(peer: Archive, folder: Path, commitment: bool = True) -> Check:
    destination = DestinationSettings(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=peer.port, commitment=commitment
    )
    (answer,) = trials(Settings(node=NodeSettings(data_dir=folder), destinations=[destination]))
    return answer


def test_it_is_accepted_and_committed(archive: Archive, tmp_path: Path) -> None:
    answer = tried(archive, tmp_path)
    assert answer.level is Level.OK
    assert answer.sentence.startswith("accepted, C-FIND is not answered (the peer does not accept")
    assert ", committed; now delete the study of patient DIFFMSR-TEST there, 2.25." in answer.sentence
    assert len(archive.received) == 1


def test_a_peer_that_is_full(archive: Archive, tmp_path: Path) -> None:
    archive.takes = 0
    answer = tried(archive, tmp_path)
    assert answer.level is Level.FAIL
    assert "0xA700" in answer.sentence


def test_a_peer_that_does_not_commit(archive: Archive, tmp_path: Path) -> None:
    archive.reports = False
    assert "the report will come on an association of its own" in tried(archive, tmp_path).sentence


def test_nobody_can_mistake_it_for_a_patient() -> None:
    image = marked_image()
    assert (image.PatientID, str(image.PatientName)) == (PATIENT_ID, "DIFFMSR^TEST")
    assert "TEST" in image.SeriesDescription
    assert is_ours(image), "a node that gets it back does not take it for a target"
    assert marked_image().SOPInstanceUID != image.SOPInstanceUID
