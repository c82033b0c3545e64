"""One answer per question: what a UID is, what a number, whose an object is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from node.dicom.attributes import Attributes
from node.dicom.uid import is_uid
from node.identity import MANUFACTURER, MODEL_NAME, is_ours
from tests.dicom import mr_series


def with_raw(keyword: str, vr: str, value: bytes) -> Attributes:
    """An attribute with these bytes, as they come from a file."""
    ds = Dataset()
    tag = Tag(keyword)
    ds[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    return Attributes(ds)


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        ("1", True), ("1.2.3", True), ("1.02.3", True), ("2.25." + "1" * 59, True),
        ("1..2", False), (".1", False), ("1.", False), ("", False), ("1.2.a", False), ("1.2.3\n", False), ("１.2", False),
        ("2.25." + "1" * 60, False),
    ],
)  # fmt: skip
def test_a_uid_is_one_everywhere_or_nowhere(text: str, uid: bool) -> None:
    assert is_uid(text) is uid
    found = with_raw("SeriesInstanceUID", "UI", text.encode()).uid("SeriesInstanceUID")
    assert (found == text.strip()) is (uid or is_uid(text.strip()))


@pytest.mark.parametrize(
    ("value", "integer", "count"),
    [
        (b"15", 15, 15), (b"15.0", 15, 15), (b" 15 ", 15, 15), (b"+7", 7, 7), (b"0", 0, None), (b"-3", -3, None),
        (b"2147483647", 2147483647, 2147483647), (b"2147483648", None, None), (b"99999999999999", None, None),
        (b"", None, None), (b"abc", None, None), (b"1e400", None, None), (b"nan", None, None), (b"3\\4", 3, 3),
        (b"\xff\xfe", None, None),
    ],
)  # fmt: skip
def test_an_integer_string_is_read_alike_by_everyone(value: bytes, integer: int | None, count: int | None) -> None:
    a = with_raw("SeriesNumber", "IS", value)
    assert (a.integer("SeriesNumber"), a.count("SeriesNumber")) == (integer, count)


@given(st.binary(max_size=20), st.sampled_from(["IS", "DS", "US", "UN", "LO", "SQ"]))
def test_no_bytes_make_a_reader_raise(value: bytes, vr: str) -> None:
    a = with_raw("SeriesNumber", vr, value)
    for found in (a.integer("SeriesNumber"), a.count("SeriesNumber"), a.number("SeriesNumber")):
        assert found is None or isinstance(found, int | float)
    assert a.text("SeriesNumber") is None or isinstance(a.text("SeriesNumber"), str)


def test_a_number_that_changes_pixels_is_never_guessed() -> None:
    assert Attributes(Dataset()).stated("RescaleSlope", 1.0) == 1.0
    assert with_raw("RescaleSlope", "DS", b"").stated("RescaleSlope", 1.0) == 1.0
    assert with_raw("RescaleSlope", "DS", b"  ").stated("RescaleSlope", 1.0) == 1.0
    assert with_raw("RescaleSlope", "DS", b"0.5 ").stated("RescaleSlope", 1.0) == 0.5
    assert with_raw("RescaleSlope", "DS", b"0").stated("RescaleSlope", 1.0) == 0
    with pytest.raises(ValueError, match="RescaleSlope"):
        with_raw("RescaleSlope", "DS", b"abc").stated("RescaleSlope", 1.0)


@pytest.mark.parametrize(
    ("attributes", "ours"),
    [
        ({}, False),
        ({"Manufacturer": MANUFACTURER}, True),
        ({"ManufacturerModelName": MODEL_NAME}, True),
        ({"ImageType": ["DERIVED", "SECONDARY", "OTHER", "AI", "SUPERRES"]}, True),
        ({"ImageType": ["DERIVED", "SECONDARY", "OTHER", "AI"]}, False),
        ({"ImageType": "DERIVED"}, False),
    ],
)
def test_what_is_ours_is_known_by_any_mark_that_is_left(attributes: dict[str, Any], ours: bool) -> None:
    (ds,) = mr_series(1, **attributes)
    assert is_ours(ds) is ours


def test_what_we_make_is_ours_whatever_kind_it_is(study: Any) -> None:
    from node.config.settings import OutputSettings, ReportSettings
    from node.derived.encode import encode

    for sop_class in ("mr", "sc", "legacy_enhanced"):
        output = OutputSettings(sop_class=sop_class, presentation_state=True)  # type: ignore[arg-type]
        encoded = encode(study.result, [*study.target, *study.reference], output, ReportSettings(), 9005)
        assert all(is_ours(instance) for instance in encoded.instances), sop_class
    assert not any(is_ours(header) for header in (*study.target, *study.reference))
