"""The cases: a study each, and the verdict that is expected of it.

`code` is the study's (None: a pair was found); `says` every code that any of its series or pairs carries; `read` the
code that reading the pixels of a pair ends with (None: it is read, and holds what was written).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from tests.unit.node.cases import studies as s

AI_CODE = Dataset()
AI_CODE.CodeValue, AI_CODE.CodingSchemeDesignator, AI_CODE.CodeMeaning = "123110", "DCM", "Artificial Intelligence"


@dataclass(frozen=True)
class Case:
    name: str
    build: s.Build | str
    """What writes the study; or the folder of shared/data/vendor_dicom that is one."""
    code: str | None = None
    says: set[str] = field(default_factory=set)
    read: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    """[match] of the configuration."""
    tolerance: float = 0
    """By how much pixels may differ from what was written, where they were compressed with loss."""


def refused_t2(name: str, code: str, build: s.Build, *more: str, **settings: Any) -> Case:
    """A T2 that cannot be used beside a T1 that could."""
    return Case(name, build, "E_NO_TARGET", {code, *more}, settings=settings)


def _private(group: int, creator: str, element: int, vr: str, value: Any) -> s.Change:
    return s.each(lambda ds, _: ds.private_block(group, creator, create=True).add_new(element, vr, value))


def _rescaled(ds: Dataset, i: int) -> None:
    """The same real-world values, stored otherwise in every slice."""
    ds.PixelData = (ds.pixel_array.astype(np.uint16) * 2 + i).tobytes()
    ds.RescaleSlope, ds.RescaleIntercept = 0.5, -0.5 * i
    ds.BitsStored, ds.HighBit = 16, 15


def _signed(ds: Dataset, _: int) -> None:
    ds.PixelRepresentation = 1


def _inverted(ds: Dataset, _: int) -> None:
    ds.PixelData = (4095 - ds.pixel_array).astype(np.uint16).tobytes()
    ds.PhotometricInterpretation = "MONOCHROME1"


def _sixteen_bits(ds: Dataset, _: int) -> None:
    ds.PixelData = (ds.pixel_array.astype(np.uint16) * 16).tobytes()
    ds.BitsStored, ds.HighBit, ds.RescaleSlope, ds.RescaleIntercept = 16, 15, 0.0625, 0


def _scaled_by_philips(ds: Dataset, i: int) -> None:
    """Slices on scales of their own: what is stored is the comparable value, times RescaleSlope x scale slope."""
    scale = 1 + i
    ds.PixelData = (ds.pixel_array.astype(np.uint16) * scale).tobytes()
    ds.BitsStored, ds.HighBit, ds.RescaleSlope, ds.RescaleIntercept = 16, 15, 1, 0
    ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", float(scale))


def _padded(ds: Dataset, _: int) -> None:
    """Padding where there is nothing: pixels of the padding value count as air."""
    pixels = ds.pixel_array.astype(np.int16)
    pixels[pixels == 0] = -2000
    ds.PixelData, ds.PixelRepresentation = pixels.tobytes(), 1
    ds.BitsStored, ds.HighBit = 16, 15
    ds.add_new("PixelPaddingValue", "SS", -2000)


def _move(ds: Dataset, axis: int, by: float) -> None:
    ds.ImagePositionPatient[axis] = float(ds.ImagePositionPatient[axis]) + by


def _uneven(ds: Dataset, i: int) -> None:
    _move(ds, 2, 0.8 if i == 3 else 0)


def _sheared(ds: Dataset, i: int) -> None:
    _move(ds, 0, 0.8 * i)


SYNTAXES = [
    Case("explicit little endian", s.plain),
    Case("implicit little endian", s.converted("dcmconv", "+ti")),
    Case("deflated", s.converted("dcmconv", "+td")),
    Case("explicit big endian", s.converted("dcmconv", "+tb")),
    Case("RLE", s.compressed(RLELossless)),
    Case("JPEG Lossless, first order", s.converted("dcmcjpeg", "+e1")),
    Case("JPEG Lossless, process 14, selection value 6", s.converted("dcmcjpeg", "+el", "+sv", "6")),
    Case("JPEG-LS", s.compressed(JPEGLSLossless)),
    Case("JPEG-LS of dcmtk", s.converted("dcmcjpls", "+el")),
    Case("JPEG 2000", s.compressed(JPEG2000Lossless)),
    Case("HTJ2K", s.high_throughput(HTJ2KLossless, "-reversible", "true")),
    Case("HTJ2K with RPCL", s.high_throughput(HTJ2KLosslessRPCL, "-reversible", "true", "-prog_order", "RPCL")),
]

LOSSY: list[tuple[Any, ...]] = [
    ("JPEG baseline", s.converted("dcmcjpeg", "+eb", bits=8), 16, "W_DERIVED"),
    ("JPEG extended", s.converted("dcmcjpeg", "+ee", bits=8), 16, "W_DERIVED"),
    ("JPEG-LS near lossless", s.compressed(JPEGLSNearLossless, jls_error=2), 2),
    ("JPEG 2000 with loss", s.compressed(JPEG2000, j2k_psnr=[60]), 64),
    ("HTJ2K with loss", s.high_throughput(HTJ2K, "-qstep", "0.001"), 64),
]
SYNTAXES += [Case(name, build, "E_LOSSY", {"E_LOSSY", *more}) for name, build, _, *more in LOSSY]
SYNTAXES += [
    Case(f"{name}, accepted", build, None, {"W_LOSSY", *more}, settings={"lossy": "accept"}, tolerance=tolerance)
    for name, build, tolerance, *more in LOSSY
]

SYNTAXES += [  # the one that nothing with a permissive licence decodes
    Case(
        "JPEG extended, 12 bits",
        s.converted("dcmcjpeg", "+ee"),
        None,
        {"W_LOSSY", "W_DERIVED"},
        "E_PIXELS_UNREADABLE",
        {"lossy": "accept"},
    )
]

PIXELS = [
    Case("rescale that differs from slice to slice", s.same_values(s.each(_rescaled))),
    Case("Philips scale that varies", s.same_values(s.each(_scaled_by_philips))),
    Case("signed without negative values", s.same_values(s.each(_signed))),
    Case("MONOCHROME1", s.same_values(s.each(_inverted))),
    Case("16 bits", s.same_values(s.each(_sixteen_bits))),
    Case("padding", s.same_values(s.each(_padded))),
    Case("negative values", s.t2(RescaleSlope=1, RescaleIntercept=-2000), read="E_PIXELS_NEGATIVE"),
    Case("pixels cut short", s.t2(PixelData=b"\0" * 100), read="E_PIXELS_UNREADABLE"),
    Case("a slope that is no number", s.t2(RescaleSlope="inf", RescaleIntercept=0), read="E_PIXELS_UNREADABLE"),
]

ENHANCED = [
    Case("Enhanced T2, classic T1", s.multiframe(t1=False)),
    Case("Enhanced T2, Enhanced T1", s.multiframe()),
    Case("Enhanced, RLE", s.multiframe(syntax=RLELossless)),
    Case("Enhanced, JPEG-LS", s.multiframe(syntax=JPEGLSLossless)),
    Case("Enhanced, JPEG 2000", s.multiframe(syntax=JPEG2000Lossless)),
    Case("Enhanced, one instance a slice", s.one_frame_each),
    Case("Legacy Converted Enhanced", s.legacy_converted),
    Case("Enhanced dual echo", s.multiframe(s.again(EchoTime="20")), says={"E_CONTRAST_NOT_WANTED"}),
    Case(
        "Enhanced with two time points, one vetoed by the site",
        s.multiframe(s.time_points),
        says={"E_SITE_RULE"},
        settings={
            "rules": [
                {
                    "name": "first only",
                    "when": [{"tag": "TemporalPositionIdentifier", "greater": 1}],
                    "then": {"veto": "Only the first time point is processed."},
                }
            ]
        },
    ),
    Case("a Philips Enhanced T1 guides", s.philips_guides),
    refused_t2(
        "Enhanced, one frame without position",
        "E_SERIES_DAMAGED",
        s.multiframe(spoil=lambda ds: ds.PerFrameFunctionalGroupsSequence[1].pop("PlanePositionSequence")),
        "E_ATTRIBUTES_MISSING",
        "E_MISSING_SLICES",
        "E_TOO_FEW_SLICES",
    ),
    refused_t2("Enhanced with two stacks alike", "E_AMBIGUOUS_STACKS", s.multiframe(s.two_stacks)),
    refused_t2("Enhanced with two time points", "E_AMBIGUOUS_STACKS", s.multiframe(s.time_points)),
    refused_t2(
        "Enhanced without functional groups",
        "E_ENHANCED_NO_FUNCTIONAL_GROUPS",
        s.multiframe(spoil=lambda ds: ds.pop("PerFrameFunctionalGroupsSequence")),
        "E_ATTRIBUTES_MISSING",
        "E_CONTRAST_UNKNOWN",
    ),
]

REFUSED = [
    refused_t2("another modality", "E_NOT_MR", s.t2(Modality="CT")),
    refused_t2("secondary capture", "E_NOT_MR", s.t2(SOPClassUID=SecondaryCaptureImageStorage)),
    refused_t2("MR that is multi-frame, but not Enhanced", "E_MULTIFRAME", s.t2(NumberOfFrames=3)),
    refused_t2("no pixels", "E_NO_PIXELS", s.t2(PixelData=None)),
    refused_t2("no position", "E_ATTRIBUTES_MISSING", s.t2(ImagePositionPatient=None)),
    refused_t2("no spacing", "E_ATTRIBUTES_MISSING", s.t2(PixelSpacing=None)),
    refused_t2("one slice without position", "E_SERIES_DAMAGED", s.changed(s.one(1, ImagePositionPatient=None)),
               "E_ATTRIBUTES_MISSING", "E_MISSING_SLICES", "E_TOO_FEW_SLICES"),
    refused_t2("colour", "E_COLOUR", s.t2(PhotometricInterpretation="RGB", SamplesPerPixel=3)),
    refused_t2("32 bits", "E_PIXEL_FORMAT", s.t2(BitsAllocated=32)),
    refused_t2("an absurd matrix", "E_MATRIX_ABSURD", s.t2(Rows=65535, Columns=65535), "W_INTERPOLATED"),
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
    refused_t2("localizer by planes", "E_LOCALIZER", s.changed(s.three_planes), "E_TOO_FEW_SLICES"),
    refused_t2("localizer by name", "E_DESCRIPTION_VETO", s.t2(SeriesDescription="3-plane survey")),
    refused_t2("too few slices", "E_TOO_FEW_SLICES", s.changed(s.without(0))),
    refused_t2("a slice missing", "E_MISSING_SLICES", s.changed(s.without(2), slices=6)),
    refused_t2("a slice twice", "E_DUPLICATE_SLICES", s.changed(s.again())),
    refused_t2("uneven steps", "E_IRREGULAR_SPACING", s.changed(s.each(_uneven), slices=6)),
    refused_t2("slices sheared", "E_SHEARED_STACK", s.changed(s.each(_sheared))),
    refused_t2("two echoes that are both T2", "E_AMBIGUOUS_STACKS", s.changed(s.again(EchoTime="120", EchoNumbers=2))),
    refused_t2("two time points", "E_AMBIGUOUS_STACKS", s.changed(s.time_points)),
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
    Case("nothing usable, for two reasons", s.changed(s.each(lambda ds, _: setattr(ds, "Modality", "CT")),
                                                      s.each(lambda ds, _: setattr(ds, "BurnedInAnnotation", "YES"))),
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

CONTRAST = [
    Case("T2-FLAIR", s.t2(ScanningSequence=["SE", "IR"], RepetitionTime="9000", InversionTime="2500")),
    Case("T2 that the scanner declares", s.t2(AcquisitionContrast="T2", EchoTime="50")),
    refused_t2("T2* that the scanner declares", "E_CONTRAST_UNSUPPORTED", s.t2(AcquisitionContrast="T2_STAR")),
    refused_t2("PD", "E_CONTRAST_NOT_WANTED", s.t2(EchoTime="20")),
    refused_t2("STIR", "E_CONTRAST_NOT_WANTED", s.t2(ScanningSequence=["SE", "IR"], InversionTime="160", EchoTime="60")),
    refused_t2("fat-saturated T2", "E_CONTRAST_NOT_WANTED", s.t2(ScanOptions="FS")),
    refused_t2("times of no contrast", "E_CONTRAST_UNKNOWN", s.t2(EchoTime="50")),
    refused_t2("no times", "E_CONTRAST_UNKNOWN", s.t2(EchoTime=None, RepetitionTime=None)),
    refused_t2("a target the model was not trained for", "E_NOT_TRAINED_FOR", s.t2(AcquisitionContrast="STIR"), targets=["STIR"]),
    Case("MPRAGE guides", s.t1(ScanningSequence=["GR", "IR"], RepetitionTime="2300", EchoTime="3", InversionTime="900")),
    Case("spoiled gradient echo guides", s.t1(ScanningSequence="GR", SequenceVariant="SP", RepetitionTime="8", EchoTime="3")),
    Case("steady state does not guide", s.t1(ScanningSequence="GR", SequenceVariant="SS", RepetitionTime="8", EchoTime="3"),
         "E_NO_REFERENCE", {"E_CONTRAST_UNKNOWN"}),
    Case("contrast agent in the T1", s.t1(ContrastBolusAgent="Gadobutrol"), says={"W_CONTRAST_AGENT"}),
    Case("a contrast the site knows", s.t2(EchoTime=None, StationName="MR1"), says={"W_SITE_RULE"}, settings={
        "rules": [{"name": "r", "when": [{"tag": "StationName", "is": "MR1"}], "then": {"contrast": "T2"}}]}),
]  # fmt: skip

PAIRS = [
    Case("no T1", s.changed(t1=lambda images: []), "E_NO_REFERENCE"),
    Case("another patient", s.t1(PatientID="P2"), "E_NO_REFERENCE", {"E_OTHER_PATIENT"}),
    Case("another frame of reference", s.t1(FrameOfReferenceUID="1.2.3"), "E_NO_REFERENCE", {"E_FRAME_OF_REFERENCE"}),
    Case("tilted", s.changed(t1=s.tilted), "E_NO_REFERENCE", {"E_NOT_PARALLEL"}),
    Case("planes apart", s.changed(t1=s.each(lambda ds, i: _move(ds, 2, 20))), "E_NO_REFERENCE", {"E_PLANES_APART"}),
    Case("another field of view", s.changed(t1=s.each(lambda ds, i: _move(ds, 0, 40))), "E_NO_REFERENCE", {"E_FIELD_OF_VIEW"}),
    Case("a T1 as coarse as the T2", s.t1(PixelSpacing=[4, 4]), "E_NO_REFERENCE", {"E_REFERENCE_COARSE"}),
    Case("a T1 somewhat coarse", s.t1(PixelSpacing=[1.5, 1.5]), says={"W_REFERENCE_COARSE"}),
    Case("an interpolated T1", s.t1(AcquisitionMatrix=[0, 72, 80, 0]), says={"W_REFERENCE_INTERPOLATED"}),
    Case("an interpolated T2", s.t2(AcquisitionMatrix=[0, 20, 20, 0]), says={"W_INTERPOLATED"}),
    Case("a T2 of unknown matrix", s.t2(AcquisitionMatrix=None), says={"W_ACQUIRED_MATRIX_UNKNOWN"}),
    Case("a T2 processed by the scanner", s.t2(ImageType=["DERIVED", "PRIMARY", "M", "DIS2D"]), says={"W_DERIVED"}),
    Case("fewer images than announced", s.t2(ImagesInAcquisition=9), says={"W_FEWER_THAN_ANNOUNCED"}),
]  # fmt: skip

REAL = [
    Case("GE Signa, T1 MPRAGE", "GE_Signa_T1_MPRAGE", "E_NO_TARGET", {"W_FEWER_THAN_ANNOUNCED"}),
    Case("GE HDxt, T1, de-identified", "GE_HDxt_deidentified_T1_sag", "E_NO_TARGET", {"W_FEWER_THAN_ANNOUNCED"}),
    Case("Siemens Prisma, dual echo", "Siemens_Prisma_PD_T2_dualecho", "E_NO_REFERENCE", {"E_CONTRAST_NOT_WANTED"}),
]
REAL += [
    Case(name, s.packaged(name), "E_TOO_FEW_SLICES",
         {"E_TOO_FEW_SLICES", "W_DERIVED", "W_ACQUIRED_MATRIX_UNKNOWN", "E_TARGET_ALREADY_FINE"})
    for name in (
        "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm", "MR_truncated.dcm",
    )
]  # fmt: skip
REAL += [
    Case("examples_overlay.dcm", s.packaged("examples_overlay.dcm"), "E_COMPUTED_IMAGE",
         {"E_COMPUTED_IMAGE", "E_TOO_FEW_SLICES", "W_DERIVED", "E_CONTRAST_NOT_WANTED"}),
    Case("MR-SIEMENS-DICOM-WithOverlays.dcm", s.packaged("MR-SIEMENS-DICOM-WithOverlays.dcm"), "E_COMPUTED_IMAGE",
         {"E_COMPUTED_IMAGE", "E_TOO_FEW_SLICES", "W_DERIVED", "E_CONTRAST_NOT_WANTED"}),
    Case("MR2_UNCR.dcm", s.packaged("MR2_UNCR.dcm"), "E_TOO_FEW_SLICES", {"E_TOO_FEW_SLICES"}),
    Case("MR2_J2KR.dcm", s.packaged("MR2_J2KR.dcm"), "E_TOO_FEW_SLICES", {"E_TOO_FEW_SLICES", "W_DERIVED"}),
    Case("MR2_UNCI.dcm, lossy before", s.packaged("MR2_UNCI.dcm"), "E_TOO_FEW_SLICES", {"E_TOO_FEW_SLICES", "W_DERIVED", "E_LOSSY"}),
    Case("MR2_J2KI.dcm, lossy", s.packaged("MR2_J2KI.dcm"), "E_TOO_FEW_SLICES", {"E_TOO_FEW_SLICES", "W_DERIVED", "E_LOSSY"}),
]  # fmt: skip
REAL += [
    Case(name, s.packaged(name), "E_ENHANCED_NO_FUNCTIONAL_GROUPS", {"E_ENHANCED_NO_FUNCTIONAL_GROUPS", "E_ATTRIBUTES_MISSING"})
    for name in (
        "emri_small.dcm", "emri_small_RLE.dcm", "emri_small_big_endian.dcm", "emri_small_jpeg_2k_lossless.dcm",
        "emri_small_jpeg_ls_lossless.dcm",
    )
]  # fmt: skip
_SIEMENS_DWI = {
    "E_MOSAIC",
    "E_COMPUTED_IMAGE",
    "E_ECHO_PLANAR",
    "E_DESCRIPTION_VETO",
    "E_TOO_FEW_SLICES",
    "E_CONTRAST_NOT_WANTED",
}
REAL += [
    Case("CT_small.dcm", s.packaged("CT_small.dcm"), "E_NOT_MR", {"E_NOT_MR"}),
    Case("eCT_Supplemental.dcm", s.packaged("eCT_Supplemental.dcm"), "E_NOT_MR", {"E_NOT_MR"}),
    Case("test-SR.dcm", s.packaged("test-SR.dcm"), "E_NOT_MR", {"E_NOT_MR"}),
    Case("nibabel 0.dcm", s.packaged("0.dcm"), "E_MOSAIC", _SIEMENS_DWI),
    Case("nibabel 0.dcm and 1.dcm", s.packaged("0.dcm", "1.dcm"), "E_MOSAIC", _SIEMENS_DWI),
    Case("nibabel siemens_dwi_0", s.packaged("siemens_dwi_0.dcm.gz"), "E_MOSAIC", _SIEMENS_DWI),
    Case("nibabel siemens_dwi_1000", s.packaged("siemens_dwi_1000.dcm.gz"), "E_MOSAIC", _SIEMENS_DWI | {"E_DIFFUSION"}),
    Case("nibabel csa_slice_norm, a header only", s.packaged("csa_slice_norm.dcm"), "E_NO_PIXELS",
         {"E_NO_PIXELS", "E_MOSAIC", "E_ECHO_PLANAR", "E_TOO_FEW_SLICES", "E_CONTRAST_NOT_WANTED"}),
    Case("nibabel slicethickness_empty_string", s.packaged("slicethickness_empty_string.dcm"), "E_COMPUTED_IMAGE",
         {"E_COMPUTED_IMAGE", "E_ANGIOGRAPHY", "E_DESCRIPTION_VETO", "E_TOO_FEW_SLICES", "W_DERIVED"}),
    Case("nibabel philips_mprage", s.packaged("philips_mprage.dcm.gz"), "E_NO_TARGET"),
]  # fmt: skip

CASES = [*SYNTAXES, *PIXELS, *ENHANCED, *REFUSED, *LOOP, *CONTRAST, *PAIRS, *REAL]
