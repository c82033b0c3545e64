"""What headers say of an acquisition: a table of headers as scanners write them, and of damaged ones."""

from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from node.dicom.acquisition import ATTRIBUTES, AcquisitionHeader, acquisition_header, agreed
from node.dicom.attributes import Attributes
from node.dicom.frames import images_of
from tests.dicom import T2, enhanced, mr_series

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # damaged values are a point here

UNKNOWN = (None, None)


def header(rows: int = 256, columns: int = 256, protocol: str | None = None, **attributes: Any) -> Dataset:
    ds = Dataset()
    ds.Rows, ds.Columns, ds.PixelSpacing = rows, columns, [0.9, 0.9]
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    if protocol is not None:
        block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x20, "OB", b"\0\1 binary ### ASCCONV BEGIN ###\n" + protocol.encode() + b"\n### ASCCONV END ###")
    return ds


def said(**attributes: Any) -> AcquisitionHeader:
    return acquisition_header(Attributes(header(**attributes)))


MATRICES: list[tuple[str, tuple[int | None, int | None], dict[str, Any]]] = [
    ("phase along columns", (205, 256), {"AcquisitionMatrix": [0, 256, 205, 0], "InPlanePhaseEncodingDirection": "COL"}),
    ("phase along rows", (256, 205), {"AcquisitionMatrix": [256, 0, 0, 205], "InPlanePhaseEncodingDirection": "ROW"}),
    ("GE, phase along rows", (256, 205), {"AcquisitionMatrix": [0, 256, 205, 0], "InPlanePhaseEncodingDirection": "ROW"}),
    ("XA30, phase along columns", (205, 256),
     {"AcquisitionMatrix": [256, 0, 0, 205], "InPlanePhaseEncodingDirection": "COL"}),
    ("no direction", (205, 256), {"AcquisitionMatrix": [0, 256, 205, 0]}),
    ("no direction, the other places", (256, 205), {"AcquisitionMatrix": [256, 0, 0, 205]}),
    ("neither along rows nor columns", UNKNOWN,
     {"AcquisitionMatrix": [0, 256, 205, 0], "InPlanePhaseEncodingDirection": "OTHER"}),
    ("oversampled", (256, 256), {"AcquisitionMatrix": [0, 512, 300, 0], "InPlanePhaseEncodingDirection": "COL"}),
    ("enlarged twice", (102, 128), {"AcquisitionMatrix": [0, 128, 102, 0], "InPlanePhaseEncodingDirection": "COL"}),
    ("no phase lines", (None, 256), {"AcquisitionMatrix": [0, 256, 0, 0], "InPlanePhaseEncodingDirection": "COL"}),
    ("zeros", UNKNOWN, {"AcquisitionMatrix": [0, 0, 0, 0], "InPlanePhaseEncodingDirection": "COL"}),
    ("two values", UNKNOWN, {"AcquisitionMatrix": [256, 205]}),
    ("nothing", UNKNOWN, {}),
    # PercentSampling agrees, in one of the ways in which scanners mean it, or contradicts.
    ("sampling agrees", (205, 256),
     {"AcquisitionMatrix": [0, 256, 205, 0], "InPlanePhaseEncodingDirection": "COL", "PercentSampling": 80}),
    ("sampling of 100 says nothing", (205, 256),
     {"AcquisitionMatrix": [0, 256, 205, 0], "InPlanePhaseEncodingDirection": "COL", "PercentSampling": 100}),
    ("sampling contradicts", (None, 256),
     {"AcquisitionMatrix": [0, 256, 256, 0], "InPlanePhaseEncodingDirection": "COL", "PercentSampling": 60}),
    ("sampling is partial Fourier", (256, 256),
     {"AcquisitionMatrix": [0, 256, 256, 0], "InPlanePhaseEncodingDirection": "COL", "PercentSampling": 75,
      "ScanOptions": ["FS", "PFP"]}),
    ("sampling alone", (205, None), {"InPlanePhaseEncodingDirection": "COL", "PercentSampling": 80}),
    ("sampling alone, without direction", UNKNOWN, {"PercentSampling": 80}),
    ("sampling beyond all", UNKNOWN, {"InPlanePhaseEncodingDirection": "COL", "PercentSampling": 800}),
    # A rectangular field of view: stored as such, or padded to a square one.
    ("rectangular", (156, 256),
     {"rows": 192, "AcquisitionMatrix": [0, 256, 156, 0], "InPlanePhaseEncodingDirection": "COL",
      "PercentPhaseFieldOfView": 75}),
    ("rectangular, sampled 80 %", (154, 256),
     {"rows": 192, "AcquisitionMatrix": [0, 256, 154, 0], "InPlanePhaseEncodingDirection": "COL",
      "PercentPhaseFieldOfView": 75, "PercentSampling": 80}),
    ("padded, counted in either field of view", (None, 256),
     {"AcquisitionMatrix": [0, 256, 156, 0], "InPlanePhaseEncodingDirection": "COL", "PercentPhaseFieldOfView": 75}),
    ("padded, counted in the whole one", (230, 256),
     {"AcquisitionMatrix": [0, 256, 230, 0], "InPlanePhaseEncodingDirection": "COL", "PercentPhaseFieldOfView": 75}),
]  # fmt: skip


@pytest.mark.parametrize(("matrix", "attributes"), [m[1:] for m in MATRICES], ids=[m[0] for m in MATRICES])
def test_the_acquired_matrix(matrix: tuple[int | None, int | None], attributes: dict[str, Any]) -> None:
    assert said(**attributes).matrix == matrix


FULL: dict[str, Any] = {"AcquisitionMatrix": [0, 256, 256, 0], "InPlanePhaseEncodingDirection": "COL"}
PROTOCOL = "sKSpace.lBaseResolution = 256\nsKSpace.ucPhasePartialFourier\t = \t{}\nsKSpace.ucMultiSliceMode = 2\n"
FRACTIONS: list[tuple[str, tuple[float | None, float | None], dict[str, Any]]] = [
    ("nothing", UNKNOWN, FULL),
    ("PFP alone", UNKNOWN, FULL | {"ScanOptions": "PFP"}),
    ("PFP, lines counted", (0.75, None), FULL | {"ScanOptions": "PFP", "NumberOfPhaseEncodingSteps": 192}),
    ("PFP, oversampled", UNKNOWN, FULL | {"ScanOptions": "PFP", "NumberOfPhaseEncodingSteps": 340}),
    ("PFP along rows", (None, 0.625),
     FULL | {"ScanOptions": "PFP", "NumberOfPhaseEncodingSteps": 160, "InPlanePhaseEncodingDirection": "ROW"}),
    ("lines without PFP: parallel imaging", UNKNOWN, FULL | {"NumberOfPhaseEncodingSteps": 160}),
    ("PFP, share of lines", (0.875, None), FULL | {"ScanOptions": "PFP", "PercentSampling": 87.5}),
    ("PFP, share is the resolution", UNKNOWN,
     FULL | {"AcquisitionMatrix": [0, 256, 192, 0], "ScanOptions": "PFP", "PercentSampling": 75}),
    ("PFF", UNKNOWN, FULL | {"ScanOptions": "PFF"}),
    ("Siemens 6/8", (0.75, None), FULL | {"protocol": PROTOCOL.format("0x4")}),
    ("Siemens 6/8, decimal", (0.75, None), FULL | {"protocol": PROTOCOL.format("4")}),
    ("Siemens off", (1.0, None), FULL | {"protocol": PROTOCOL.format("0x10")}),
    ("Siemens 4/8", UNKNOWN, FULL | {"protocol": PROTOCOL.format("0x1")}),
    ("Siemens, no such code", UNKNOWN, FULL | {"protocol": PROTOCOL.format("0x3")}),
    ("Siemens, twice the same", (0.75, None), FULL | {"protocol": 2 * PROTOCOL.format("0x4")}),
    ("Siemens, two codes", UNKNOWN, FULL | {"protocol": PROTOCOL.format("0x4") + PROTOCOL.format("0x8")}),
    ("Siemens, no direction", UNKNOWN, {"protocol": PROTOCOL.format("0x4")}),
]  # fmt: skip


@pytest.mark.parametrize(("fractions", "attributes"), [f[1:] for f in FRACTIONS], ids=[f[0] for f in FRACTIONS])
def test_partial_fourier(fractions: tuple[float | None, float | None], attributes: dict[str, Any]) -> None:
    assert said(**attributes).partial_fourier == fractions


def in_frames(count: int = 1, **attributes: Any) -> list[AcquisitionHeader]:
    """What the frames of an Enhanced instance say; attributes are of the instance or its MR Modifier macro."""
    images = mr_series(count, 256, 256, AcquisitionMatrix=[0, 256, 205, 0], InPlanePhaseEncodingDirection="COL", **T2)
    ds = enhanced(images)
    modifiers = [group.MRModifierSequence[0] for group in ds.PerFrameFunctionalGroupsSequence]
    geometry = ds.SharedFunctionalGroupsSequence[0].MRFOVGeometrySequence[0]
    for keyword, value in attributes.items():
        places = modifiers if keyword.startswith("Partial") else [geometry if keyword.startswith("Percent") else ds]
        for place in places:
            setattr(place, keyword, value)
    return [acquisition_header(Attributes(frame)) for frame in images_of(ds)]


ENHANCED: list[tuple[str, AcquisitionHeader, dict[str, Any]]] = [
    ("plain", AcquisitionHeader((205, 256)), {}),
    ("no partial Fourier", AcquisitionHeader((205, 256), (1.0, 1.0)), {"PartialFourier": "NO"}),
    ("across slices", AcquisitionHeader((205, 256), (1.0, 1.0)),
     {"PartialFourier": "YES", "PartialFourierDirection": "SLICE_SELECT"}),
    ("phase", AcquisitionHeader((None, 256), (None, 1.0)), {"PartialFourier": "YES", "PartialFourierDirection": "PHASE"}),
    ("phase, with a share", AcquisitionHeader((None, 256), (0.75, 1.0)),
     {"PartialFourier": "YES", "PartialFourierDirection": "PHASE", "PercentSampling": 75.0}),
    ("frequency", AcquisitionHeader((205, None), (1.0, None)),
     {"PartialFourier": "YES", "PartialFourierDirection": "FREQUENCY"}),
    ("both", AcquisitionHeader(), {"PartialFourier": "YES", "PartialFourierDirection": "COMBINATION"}),
    ("no filter", AcquisitionHeader((205, 256), filter="none"), {"KSpaceFiltering": "NONE"}),
    ("Hamming", AcquisitionHeader((205, 256), filter="hamming"), {"KSpaceFiltering": "HAMMING"}),
    ("a filter without a shape", AcquisitionHeader((205, 256), filter="other"), {"KSpaceFiltering": "RIESZ"}),
    ("two filters", AcquisitionHeader((205, 256)), {"KSpaceFiltering": ["HAMMING", "TUKEY"]}),
    ("corners", AcquisitionHeader((205, 256), ellipse=False), {"CoverageOfKSpace": "FULL"}),
    ("no corners", AcquisitionHeader((205, 256), ellipse=True), {"CoverageOfKSpace": "ELLIPSOIDAL"}),
    ("no corners across slices", AcquisitionHeader((205, 256)), {"CoverageOfKSpace": "CYLINDRICAL"}),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "attributes"), [e[1:] for e in ENHANCED], ids=[e[0] for e in ENHANCED])
def test_enhanced_images(expected: AcquisitionHeader, attributes: dict[str, Any]) -> None:
    assert in_frames(2, **attributes) == [expected, expected]


def test_what_slices_say_differently_is_unknown() -> None:
    one = AcquisitionHeader((205, 256), (0.75, 1.0), "none", False)
    other = AcquisitionHeader((192, 256), (0.75, None), "hamming", False)
    assert agreed([one, one]) == one
    assert agreed([one, other]) == AcquisitionHeader((None, 256), (0.75, None), None, False)
    assert agreed([]) == AcquisitionHeader()


class Asked(Attributes):
    """Remembers the attributes that were asked for."""

    keywords: ClassVar[set[str]] = set()

    def values(self, keyword: str) -> list[Any]:
        self.keywords.add(keyword)
        return super().values(keyword)


def test_the_conformance_statement_names_every_attribute_that_is_read() -> None:
    for attributes in (FULL | {"ScanOptions": "PFP"}, {"PartialFourier": "YES", "PartialFourierDirection": "PHASE"}):
        acquisition_header(Asked(header(**attributes)))
    assert Asked.keywords - {"Rows", "Columns", "PixelSpacing"} == set(ATTRIBUTES)


KEYWORDS = (*ATTRIBUTES, "Rows", "Columns", "PixelSpacing")
rubbish = st.sampled_from(
    [b"", b"\xff\xfe\x00", b"abc", b"nan\\inf", b"-1\\-1\\-1\\-1", b"1e400", b"YES", b"PHASE", b"ROW", b"0", b"65535"]
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYWORDS), rubbish), st.binary(max_size=40))
def test_damage_is_unknown_and_never_an_exception(damage: dict[str, bytes], protocol: bytes) -> None:
    ds = header(**FULL, protocol=PROTOCOL.format("0x4"))
    for keyword, value in damage.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        ds[Tag(tag)] = RawDataElement(Tag(tag), dictionary_VR(tag), len(value), value, 0, False, True)
    ds.private_block(0x0029, "SIEMENS CSA HEADER")[0x20]._value = protocol
    found = acquisition_header(Attributes(ds))
    stored = [Attributes(ds).count(keyword) for keyword in ("Rows", "Columns")]
    assert all(n is None or 0 < n <= (of or 0) for n, of in zip(found.matrix, stored, strict=True))
    assert all(share is None or 0.5 < share <= 1 for share in found.partial_fourier)
