"""Series that are refused: images of another kind, damaged stacks, results of this node and of other AI."""

from typing import Any

from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from tests.unit.node.cases import changes as c
from tests.unit.node.cases import studies as s
from tests.unit.node.cases.case import Case, refused_t2

AI_CODE = Dataset()
AI_CODE.CodeValue, AI_CODE.CodingSchemeDesignator, AI_CODE.CodeMeaning = "123110", "DCM", "Artificial Intelligence"


def _private(group: int, creator: str, element: int, vr: str, value: Any) -> c.Change:
    return c.each(lambda ds, _: ds.private_block(group, creator, create=True).add_new(element, vr, value))


def _uneven(ds: Dataset, i: int) -> None:
    c.move(ds, 2, 0.8 if i == 3 else 0)


def _sheared(ds: Dataset, i: int) -> None:
    c.move(ds, 0, 0.8 * i)


REFUSED = [
    refused_t2("another modality", "E_NOT_MR", s.t2(Modality="CT")),
    refused_t2("secondary capture", "E_NOT_MR", s.t2(SOPClassUID=SecondaryCaptureImageStorage)),
    refused_t2("MR that is multi-frame, but not Enhanced", "E_MULTIFRAME", s.t2(NumberOfFrames=3)),
    refused_t2("no pixels", "E_NO_PIXELS", s.t2(PixelData=None)),
    refused_t2("no position", "E_ATTRIBUTES_MISSING", s.t2(ImagePositionPatient=None)),
    refused_t2("no spacing", "E_ATTRIBUTES_MISSING", s.t2(PixelSpacing=None)),
    refused_t2("one slice without position", "E_SERIES_DAMAGED", s.changed(c.one(1, ImagePositionPatient=None)),
               "E_ATTRIBUTES_MISSING", "E_MISSING_SLICES", "E_TOO_FEW_SLICES"),
    refused_t2("slices of two records", "E_SERIES_PATIENTS", s.changed(c.one(1, PatientID="P2"))),
    refused_t2("colour", "E_COLOUR", s.t2(PhotometricInterpretation="RGB", SamplesPerPixel=3)),
    refused_t2("32 bits", "E_PIXEL_FORMAT", s.t2(BitsAllocated=32)),
    refused_t2("an absurd matrix", "E_MATRIX_ABSURD", s.t2(Rows=65535, Columns=65535), "W_INTERPOLATED",
               "E_MATRIX_TOO_LARGE"),
    refused_t2("Siemens mosaic", "E_MOSAIC", s.t2(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])),
    refused_t2("phase", "E_NOT_MAGNITUDE", s.t2(ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])),
    refused_t2("phase map", "E_NOT_MAGNITUDE", s.t2(ImageType=["ORIGINAL", "PRIMARY", "PHASE MAP"]), "E_COMPUTED_IMAGE"),
    refused_t2("real part", "E_NOT_MAGNITUDE", s.t2(ImageType=["ORIGINAL", "PRIMARY", "R_IR", "R", "IR"])),
    refused_t2("imaginary part", "E_NOT_MAGNITUDE", s.t2(ImageType=["DERIVED", "PRIMARY", "IMAGINARY"]), "W_DERIVED"),
    refused_t2("complex component", "E_NOT_MAGNITUDE", s.t2(ComplexImageComponent="PHASE")),
    refused_t2("phase, as GE says it", "E_NOT_MAGNITUDE", s.changed(_private(0x0043, "GEMS_PARM_01", 0x2F, "SS", 1))),
    refused_t2("reformat", "E_COMPUTED_IMAGE", s.t2(ImageType=["DERIVED", "PRIMARY", "MPR", "CSA MPR"]), "W_DERIVED"),
    refused_t2("reformat, as Enhanced says it", "E_COMPUTED_IMAGE",
               s.multiframe(spoil=lambda ds: setattr(ds, "VolumeBasedCalculationTechnique", "MPR"))),
    refused_t2("projection", "E_COMPUTED_IMAGE", s.t2(ImageType=["DERIVED", "SECONDARY", "PROJECTION IMAGE"]), "W_DERIVED"),
    refused_t2("maximum projection", "E_COMPUTED_IMAGE", s.t2(ImageType=["DERIVED", "SECONDARY", "MAX IP"]), "W_DERIVED"),
    refused_t2("fat of a Dixon series", "E_COMPUTED_IMAGE", s.t2(ImageType=["DERIVED", "PRIMARY", "DIXON", "FAT"]), "W_DERIVED"),
    refused_t2("fat, as Philips says it", "E_COMPUTED_IMAGE", s.t2(ImageType=["DERIVED", "PRIMARY", "F", "F", "DERIVED"]), "W_DERIVED"),
    refused_t2("opposed phase", "E_COMPUTED_IMAGE", s.t2(ImageType=["ORIGINAL", "PRIMARY", "M", "OPP_PHASE"])),
    refused_t2("subtraction, as GE says it", "E_COMPUTED_IMAGE", s.t2(ImageType=["DERIVED", "PRIMARY", "OTHER", "SUBTRACT"]), "W_DERIVED"),
    refused_t2("ADC", "E_COMPUTED_IMAGE", s.t2(ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]), "W_DERIVED"),
    refused_t2("FA", "E_COMPUTED_IMAGE", s.t2(ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "FA"]), "W_DERIVED"),
    refused_t2("T2 map", "E_COMPUTED_IMAGE", s.t2(ImageType=["DERIVED", "PRIMARY", "T2 MAP"]), "W_DERIVED"),
    refused_t2("subtraction", "E_COMPUTED_IMAGE", s.t2(ImageType=["DERIVED", "PRIMARY", "SUBTRACTION"]), "W_DERIVED"),
    refused_t2("b-value", "E_DIFFUSION", s.t2(DiffusionBValue=800.0)),
    refused_t2("b-value, as Siemens writes it", "E_DIFFUSION", s.changed(_private(0x0019, "SIEMENS MR HEADER", 0x0C, "IS", 800))),
    refused_t2("b-value, as Philips writes it", "E_DIFFUSION", s.changed(_private(0x2001, "Philips Imaging DD 001", 0x03, "FL", 800.0))),
    refused_t2("b-value, as GE writes it", "E_DIFFUSION", s.changed(_private(0x0043, "GEMS_PARM_01", 0x39, "IS", [1000000800, 8]))),
    refused_t2("echo-planar", "E_ECHO_PLANAR", s.t2(ScanningSequence=["EP", "SE"])),
    refused_t2("angiography", "E_ANGIOGRAPHY", s.t2(AngioFlag="Y")),
    refused_t2("burned-in text", "E_BURNED_IN", s.t2(BurnedInAnnotation="YES")),
    refused_t2("localizer by type", "E_LOCALIZER", s.t2(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    refused_t2("localizer by planes", "E_LOCALIZER", s.changed(c.three_planes), "E_TOO_FEW_SLICES"),
    refused_t2("localizer by name", "E_DESCRIPTION_VETO", s.t2(SeriesDescription="3-plane survey")),
    refused_t2("too few slices", "E_TOO_FEW_SLICES", s.changed(c.without(0))),
    refused_t2("a slice missing", "E_MISSING_SLICES", s.changed(c.without(2), slices=6)),
    refused_t2("a slice twice", "E_DUPLICATE_SLICES", s.changed(c.again())),
    refused_t2("uneven steps", "E_IRREGULAR_SPACING", s.changed(c.each(_uneven), slices=6)),
    refused_t2("slices sheared", "E_SHEARED_STACK", s.changed(c.each(_sheared))),
    refused_t2("two echoes that are both T2", "E_AMBIGUOUS_STACKS", s.changed(c.again(EchoTime="120", EchoNumbers=2))),
    refused_t2("two time points", "E_AMBIGUOUS_STACKS", s.changed(c.time_points)),
    refused_t2("already fine", "E_TARGET_ALREADY_FINE", s.t2(PixelSpacing=[0.3, 0.3])),
    refused_t2("a small matrix", "E_MATRIX_TOO_SMALL", s.t2(Rows=12, Columns=12), ),
    refused_t2("interpolated where that is refused", "E_INTERPOLATED", s.t2(AcquisitionMatrix=[0, 20, 20, 0]),
               target={"interpolated": "refuse"}),
    refused_t2("vetoed by the site", "E_SITE_RULE", s.t2(StationName="MR1"),
               rules=[{"name": "r", "when": [{"tag": "StationName", "is": "MR1"}], "then": {"veto": "Not here."}}]),
    refused_t2("rules of the site that disagree", "E_SITE_RULES_DISAGREE", s.t2(StationName="MR1"), rules=[
        {"name": "a", "when": [{"tag": "StationName", "is": "MR1"}], "then": {"contrast": "T2"}},
        {"name": "b", "when": [{"tag": "SeriesNumber", "is": 2}], "then": {"contrast": "STIR"}},
    ]),
    Case("a result larger than may be written", s.changed(t1=lambda images: []), "E_MATRIX_TOO_LARGE", {"E_MATRIX_TOO_LARGE"},
         settings={"stack": {"max_matrix": 150}}),
    Case("nothing usable, for two reasons", s.changed(c.each(lambda ds, _: setattr(ds, "Modality", "CT")),
                                                      c.each(lambda ds, _: setattr(ds, "BurnedInAnnotation", "YES"))),
         "E_NOTHING_USABLE", {"E_NOT_MR", "E_BURNED_IN"}),
    Case("a UID that is a path", s.t2(SeriesInstanceUID="../../etc/passwd"), "E_NO_TARGET", {"E_ATTRIBUTES_MISSING"}),
]  # fmt: skip

LOOP = [
    Case("own result back", s.own_output(), says={"E_OWN_OUTPUT"}),
    Case("own result back as secondary capture", s.own_output(sop_class="sc"), says={"E_OWN_OUTPUT"}),
    Case("own result back as Legacy Converted", s.own_output(sop_class="legacy_enhanced"), says={"E_OWN_OUTPUT"}),
    Case("own result back without its marks", s.own_output(synthetic_data=False), says={"E_OWN_OUTPUT"}),
    Case("own result back with a presentation state", s.own_output(presentation_state=True), says={"E_OWN_OUTPUT"}),
    refused_t2("another's AI, by SyntheticData", "E_AI_OUTPUT", s.t2(SyntheticData="YES")),
    refused_t2("another's AI, by type", "E_AI_OUTPUT", s.t2(ImageType=["DERIVED", "SECONDARY", "AI"]), "W_DERIVED"),
    refused_t2("another's super-resolution", "E_AI_OUTPUT", s.t2(ImageType=["DERIVED", "SECONDARY", "M", "SUPERRES"]), "W_DERIVED"),
    refused_t2("another's AI, by derivation", "E_AI_OUTPUT", s.t2(DerivationCodeSequence=[AI_CODE])),
    Case("ContentQualification RESEARCH is no veto", s.t2(ContentQualification="RESEARCH")),
]  # fmt: skip
