"""Which contrast a series has, and which T1 guides which T2."""

from tests.unit.node.cases import studies as s
from tests.unit.node.cases.case import Case, refused_t2

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
    Case("planes apart", s.changed(t1=s.each(lambda ds, i: s.move(ds, 2, 20))), "E_NO_REFERENCE", {"E_PLANES_APART"}),
    Case("another field of view", s.changed(t1=s.each(lambda ds, i: s.move(ds, 0, 40))), "E_NO_REFERENCE", {"E_FIELD_OF_VIEW"}),
    Case("a T1 as coarse as the T2", s.t1(PixelSpacing=[4, 4]), "E_NO_REFERENCE", {"E_REFERENCE_COARSE"}),
    Case("a T1 somewhat coarse", s.t1(PixelSpacing=[1.5, 1.5]), says={"W_REFERENCE_COARSE"}),
    Case("an interpolated T1", s.t1(AcquisitionMatrix=[0, 72, 80, 0]), says={"W_REFERENCE_INTERPOLATED"}),
    Case("an interpolated T2", s.t2(AcquisitionMatrix=[0, 20, 20, 0]), says={"W_INTERPOLATED"}),
    Case("a T2 of unknown matrix", s.t2(AcquisitionMatrix=None), says={"W_ACQUIRED_MATRIX_UNKNOWN"}),
    Case("a T2 processed by the scanner", s.t2(ImageType=["DERIVED", "PRIMARY", "M", "DIS2D"]), says={"W_DERIVED"}),
    Case("fewer images than announced", s.t2(ImagesInAcquisition=9), says={"W_FEWER_THAN_ANNOUNCED"}),
]  # fmt: skip
