"""A share of the fuzzing in every test run, and what it has found so far."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from node.config.match import MatchSettings
from node.dicom.read import InstanceFile
from node.errors import RefusedError
from node.match.assess import assess_study
from tests.dicom import volume_of
from tests.fuzz.corpus import SECRET, Element, part10, stack
from tests.fuzz.mutate import with_element
from tests.unit.node.match.builder import MODEL

ROOT = Path(__file__).parents[2]


def test_two_thousand_damaged_data_sets(tmp_path: Path) -> None:
    """In a process of its own, since it limits its memory. See the package for more of them."""
    command = [sys.executable, "-m", "tests.fuzz", "--data-sets", "2000", "--process-every", "500", "--keep", tmp_path]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "damaged data sets of seed 0" in done.stdout
    assert " 0 kinds of failure" in done.stdout


NUMBER_OF_FRAMES, SOP_INSTANCE_UID, TRANSFER_SYNTAX_UID = 0x0028_0008, 0x0008_0018, 0x0002_0010


@pytest.mark.parametrize(
    "element",
    [
        Element(NUMBER_OF_FRAMES, b"IS", b"1\\2\\3 "),
        Element(NUMBER_OF_FRAMES, b"DS", b"inf "),
        Element(SOP_INSTANCE_UID, b"UV", b"1.2.3.4.5"),
    ],
)
def test_a_header_that_pydicom_stumbles_over_late(element: Element, tmp_path: Path) -> None:
    instance = with_element(stack()[0], element)
    path = tmp_path / "damaged.dcm"
    path.write_bytes(part10(instance, instance.data_set()))
    with pytest.raises(RefusedError) as refused:
        volume_of([path])
    assert refused.value.code == "E_PIXELS_UNREADABLE"
    assess_study([InstanceFile(path).read_header()], MatchSettings(), MODEL)


def test_a_transfer_syntax_that_is_a_sequence(tmp_path: Path) -> None:
    instance = with_element(stack()[0], Element(TRANSFER_SYNTAX_UID, b"SQ", b""))
    path = tmp_path / "damaged.dcm"
    path.write_bytes(part10(instance, instance.data_set()))
    (verdict,) = assess_study([InstanceFile(path).read_header()], MatchSettings(), MODEL).stacks
    assert verdict.contrast == "T2"


def test_a_message_has_no_more_of_a_uid_than_a_uid(tmp_path: Path) -> None:
    """A length that is untrue makes the rest of the header, patient and all, the value of an element."""
    (sop_uid,) = (e for e in stack()[0].elements if e.tag == SOP_INSTANCE_UID)
    instance = with_element(stack()[0], Element(SOP_INSTANCE_UID, b"UI", sop_uid.value, length=0x7FFF))
    path = tmp_path / "damaged.dcm"
    path.write_bytes(part10(instance, instance.data_set()))
    assert SECRET in str(InstanceFile(path).read_header().SOPInstanceUID)
    with pytest.raises(RefusedError) as refused:
        volume_of([path])
    assert SECRET not in str(refused.value)
