"""How a series falls into stacks, and how damaged headers are read."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import Tag

from node.config.match import MatchSettings
from node.match.assess import assess_study
from node.match.explanation import lines
from node.match.stacks import stacks_of
from tests.dicom import enhanced
from tests.unit.node.match.builder import MODEL, SAGITTAL, t1, t2

SPLITS: dict[str, dict[str, Any]] = {
    "echo number": {"EchoNumbers": 2},
    "echo time": {"EchoTime": 20},
    "time point": {"TemporalPositionIdentifier": 2},
    "image type": {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
    "b-value": {"DiffusionBValue": 50.0},
    "matrix": {"matrix": (32, 32)},
    "spacing": {"spacing": (3.7, 3.7)},
    "orientation": {"orientation": SAGITTAL},
    "frame of reference": {"FrameOfReferenceUID": "1.2.3"},
}


@pytest.mark.parametrize("changes", SPLITS.values(), ids=SPLITS)
def test_a_series_splits(changes: dict[str, Any]) -> None:
    first, second = stacks_of([*t2(), *t2(first=5, **changes)])
    assert first.series_uid == second.series_uid
    assert first.label != second.label
    assert len(first.sop_uids) == len(second.sop_uids) == 5


def test_rounding_does_not_split() -> None:
    headers = t2()
    headers[1].ImageOrientationPatient = [0.99999997, 0.0001, 0.0, -0.0001, 0.99999998, 0.0]
    headers[2].EchoTime = 100.04
    headers[3].PixelSpacing = [3.60001, 3.60001]
    assert len(stacks_of(headers)) == 1


def test_slices_are_sorted_along_the_normal_whatever_their_numbers() -> None:
    headers = t2(slices=6)
    for number, header in zip((4, 1, 6, 3, 2, 5), headers, strict=True):
        header.InstanceNumber = number
    (stack,) = stacks_of(reversed(headers))
    assert stack.sop_uids == tuple(h.SOPInstanceUID for h in headers)
    assert stack.geometry is not None
    assert np.allclose(stack.geometry.steps, 5.0)


def test_an_instance_that_came_twice_counts_once() -> None:
    (stack,) = stacks_of([*t2(), *t2()])
    assert len(stack.sop_uids) == 5
    changed = t2()
    changed[0].InstanceNumber = 99
    (stack,) = stacks_of([*t2(), *changed])
    assert len(stack.sop_uids) == 5


def test_labels_are_unique_even_where_series_share_a_number() -> None:
    labels = [stack.label for stack in stacks_of([*t2(3), *t2(4, SeriesNumber=3), *t2(6, SeriesNumber=None)])]
    assert labels == ["series 3, stack 1", "series 3, stack 2", "series without number"]


ACQUIRED: list[tuple[tuple[int, int] | None, dict[str, Any]]] = [
    # consistent with PS3.3: frequency rows, frequency columns, phase rows, phase columns
    ((48, 64), {"AcquisitionMatrix": [0, 64, 48, 0], "InPlanePhaseEncodingDirection": "COL"}),
    ((64, 48), {"AcquisitionMatrix": [64, 0, 0, 48], "InPlanePhaseEncodingDirection": "ROW"}),
    # GE and Siemens: the places say one direction, the direction the other
    ((64, 48), {"AcquisitionMatrix": [0, 64, 48, 0], "InPlanePhaseEncodingDirection": "ROW"}),
    # no direction: the places are all there is
    ((48, 64), {"AcquisitionMatrix": [0, 64, 48, 0], "InPlanePhaseEncodingDirection": None}),
    ((64, 48), {"AcquisitionMatrix": [64, 0, 0, 48], "InPlanePhaseEncodingDirection": None}),
    ((64, 64), {"AcquisitionMatrix": [0, 320, 300, 0]}),  # oversampled: never more than stored
    (None, {"AcquisitionMatrix": [0, 0, 0, 0]}),
    (None, {"AcquisitionMatrix": [64, 64]}),
    (None, {"AcquisitionMatrix": None}),
]


@pytest.mark.parametrize(("matrix", "changes"), ACQUIRED)
def test_acquired_matrix(matrix: tuple[int, int] | None, changes: dict[str, Any]) -> None:
    (stack,) = stacks_of(t2(**changes))
    assert stack.acquired_matrix == matrix


@pytest.mark.parametrize("direction", ["ROW", "COL"])
def test_acquired_matrix_of_enhanced(direction: str) -> None:
    headers = t2(AcquisitionMatrix=[0, 64, 48, 0], InPlanePhaseEncodingDirection=direction)
    (stack,) = stacks_of([enhanced(headers)])
    assert stack.acquired_matrix == ((64, 48) if direction == "ROW" else (48, 64))


KEYWORDS = sorted(
    {element.keyword for element in (*t2()[0], *enhanced(t2()))}
    | {"EchoNumbers", "NumberOfFrames", "AcquisitionContrast", "ContrastBolusAgentSequence", "EffectiveEchoTime"}
)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # damaged values are the point here

RUBBISH: list[Any] = [b"", b"\xff\xfe\x00", b"abc", b"1\\2\\3\\x", b"nan\\inf", b"-1", b"1e400", b"\\\\\\", b"9" * 70]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_headers_never_raise(data: st.DataObject) -> None:
    multiframe = enhanced(t2(7, slices=3))
    group = multiframe.PerFrameFunctionalGroupsSequence[1]
    headers = [*t2(slices=3), *t1(slices=3), multiframe]
    for header in (*headers, group, group.MREchoSequence[0], group.PlanePositionSequence[0]):
        for keyword in data.draw(st.lists(st.sampled_from(KEYWORDS), max_size=4, unique=True)):
            tag, how = Tag(keyword), data.draw(st.sampled_from(["absent", "empty", "raw", "other VR"]))
            if how == "absent":
                header.pop(tag, None)
            elif how == "empty":
                header[tag] = DataElement(tag, "UN", b"")
            else:
                vr = data.draw(st.sampled_from(["DS", "IS", "US", "FD", "UI", "SQ", "PN", "DA", "OW", "UN", "ZZ"]))
                value = data.draw(st.sampled_from(RUBBISH))
                header[tag] = RawDataElement(tag, vr, len(value), value, 0, how == "raw", True)
    verdict = assess_study(headers, MatchSettings(), MODEL)
    assert verdict.sentence
    assert lines(verdict)


def test_an_empty_header_is_refused_in_words() -> None:
    verdict = assess_study([Dataset()], MatchSettings(), MODEL)
    assert (verdict.outcome, verdict.code) == ("refused", "E_NOT_MR")
    assert assess_study([], MatchSettings(), MODEL).code == "E_NO_IMAGES"


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_the_order_of_arrival_makes_no_difference(seed: int) -> None:
    headers = [*t2(3), *t2(3, EchoNumbers=2, EchoTime=20, first=5), *t1(5), *t1(6), *t2(8, slices=2), *t2(3)]
    damaged = t2(9)
    del damaged[2].ImagePositionPatient
    headers += damaged
    expected = assess_study(headers, MatchSettings(), MODEL)
    random.Random(seed).shuffle(headers)
    verdict = assess_study(headers, MatchSettings(), MODEL)
    assert verdict == expected
    assert verdict.to_json() == expected.to_json()
