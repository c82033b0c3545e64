"""Every case through the public path: files, headers, match, volume."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import node.match
from node.config.match import MatchSettings
from node.errors import RefusedError
from node.folder import Folder, read_folder
from node.infer.volume import Volume, read_volume
from node.match.assess import assess_study
from node.payloads import StackRequest
from node.verdicts import StudyVerdict
from tests.unit.node.cases.case import Case
from tests.unit.node.cases.studies import Made
from tests.unit.node.cases.table import CASES
from tests.unit.node.match.builder import MODEL

MATCH = Path(node.match.__file__).parent


@pytest.mark.filterwarnings("ignore")  # damaged and real files: pydicom has much to say
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    made = _make(case, tmp_path, request)
    found = read_folder(tmp_path)
    (headers,) = found.headers.values()
    verdict = assess_study(headers, MatchSettings.model_validate(case.settings), MODEL)
    assert (verdict.code, _codes(verdict)) == (case.code, case.says), verdict.sentence
    assert (verdict.outcome == "paired") == (case.code is None) == bool(verdict.requests)
    if not verdict.requests:
        return
    (wanted,) = verdict.requests
    if case.read is not None:
        with pytest.raises(RefusedError) as refused:
            _read(wanted.target, found)
        assert refused.value.code == case.read
        return
    for stack, expected in ((wanted.target, made.target), (wanted.reference, made.reference)):
        volume = _read(stack, found)
        assert (volume.sop_uids, volume.frames) == (stack.sop_uids, stack.frames)
        if expected is not None:
            _compare(volume.pixels, expected, case.tolerance)


def _make(case: Case, folder: Path, request: pytest.FixtureRequest) -> Made:
    if isinstance(case.build, str):
        shared: Path = request.getfixturevalue("shared_data")
        shutil.copytree(
            shared / "vendor_dicom" / case.build, folder / "series", ignore=shutil.ignore_patterns("LICENSE")
        )
        return Made()
    return case.build(folder)


def _codes(verdict: StudyVerdict) -> set[str]:
    judged = [*verdict.stacks, *verdict.pairs]
    return {predicate.code for each in judged for predicate in each.predicates if predicate.code}


def _read(stack: StackRequest, found: Folder) -> Volume:
    instances = [found.instances[uid] for uid in stack.sop_uids]
    return read_volume(instances, stack.frames, MatchSettings().stack.max_matrix)


def _compare(pixels: NDArray[np.float32], expected: NDArray[np.float64], tolerance: float) -> None:
    assert pixels.shape == expected.shape
    if tolerance:
        assert 0 < np.abs(pixels - expected).max() <= tolerance
    else:
        assert np.array_equal(pixels, expected)


def test_every_code_of_the_matching_has_a_case() -> None:
    written = {code for path in MATCH.glob("*.py") for code in re.findall(r'"([EW]_[A-Z_]+)"', path.read_text())}
    of_a_folder = written - {"E_NO_IMAGES", "E_OTHER_STUDY"}  # it has one study at least, and one at a time
    assert of_a_folder == {code for case in CASES for code in (case.code, *case.says) if code}
    assert len({case.name for case in CASES}) == len(CASES)
