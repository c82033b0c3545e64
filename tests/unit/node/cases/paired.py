"""Which contrast a series has, and which T1 guides which T2."""

from pydicom.uid import (
    GrayscaleSoftcopyPresentationStateStorage,
    MRImageStorage,
    MRSpectroscopyStorage,
    RawDataStorage,
    SecondaryCaptureImageStorage,
)

from tests.unit.node.cases import changes as c
from tests.unit.node.cases import studies as s
from tests.unit.node.cases.case import Case, refused_t2

VIBE = {"ScanningSequence": "GR", "SequenceVariant": "SP", "RepetitionTime": "25", "EchoTime": "4"}
FFE = {
    "ScanningSequence": "GR",
    "SequenceVariant": "SS",
    "EchoTime": "2",
    "ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"],
}
MP2RAGE = {
    "ScanningSequence": ["GR", "IR"],
    "SequenceVariant": ["SK", "SP", "MP"],
    "RepetitionTime": "5000",
    "EchoTime": "2.98",
}

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
    Case("contrast agent in the description", s.t1(SeriesDescription="t1_se_tra_KM"), says={"W_CONTRAST_AGENT"}),
    Case("an agent that an anonymiser wrote", s.t1(ContrastBolusAgent="ANONYMIZED")),
    Case("second image of MP2RAGE does not guide", s.t1(**MP2RAGE, InversionTime="2500"), "E_NO_REFERENCE", {"E_CONTRAST_UNSUPPORTED"}),
    Case("first image of MP2RAGE guides", s.t1(**MP2RAGE, InversionTime="700")),
    Case("uniform image of MP2RAGE guides with a warning",
         s.t1(**MP2RAGE, InversionTime="700", ImageType=["DERIVED", "PRIMARY", "M", "UNI"]), says={"W_RATIO_IMAGE", "W_DERIVED"}),
    Case("a small flip angle does not guide", s.t1(**VIBE, FlipAngle="4"), "E_NO_REFERENCE", {"E_CONTRAST_UNSUPPORTED"}),
    Case("a large flip angle guides", s.t1(**VIBE, FlipAngle="25")),
    Case("magnetisation transfer does not guide", s.t1(**VIBE | {"SequenceVariant": ["SP", "MTC"]}, FlipAngle="25"),
         "E_NO_REFERENCE", {"E_CONTRAST_UNSUPPORTED"}),
    Case("time of flight does not guide", s.t1(**VIBE, FlipAngle="25", SequenceName="*fi3d1r"), "E_NO_REFERENCE", {"E_CONTRAST_UNSUPPORTED"}),
    Case("a field map does not guide", s.t1(**VIBE, FlipAngle="60", SequenceName="*fm2d2r"), "E_NO_REFERENCE", {"E_CONTRAST_UNSUPPORTED"}),
    Case("phase-sensitive inversion recovery does not guide", s.t1(ImageType=["ORIGINAL", "PRIMARY", "CR", "CR", "IR"]),
         "E_NO_REFERENCE", {"E_NOT_MAGNITUDE"}),
    Case("classic FFE of Philips guides", s.t1(**FFE, FlipAngle="80", RepetitionTime="256.4")),
    Case("balanced FFE of Philips does not guide", s.t1(**FFE, FlipAngle="60", RepetitionTime="4"), "E_NO_REFERENCE", {"E_CONTRAST_UNKNOWN"}),
    Case("single shot", s.t2(RepetitionTime="1000", EchoTrainLength="205"), says={"W_SINGLE_SHOT"}),
    Case("a network in the reconstruction", s.t2(ImageType=["ORIGINAL", "PRIMARY", "M", "NORM", "DRS", "DIS2D", "DRB"]),
         says={"W_DEEP_LEARNING"}),
    Case("a network that the site refuses", s.t2(SeriesDescription="t2 AIR Recon DL"), "E_NO_TARGET", {"E_DEEP_LEARNING"},
         settings={"deep_learning": "refuse"}),
    Case("a contrast the site knows", s.t2(EchoTime=None, StationName="MR1"), says={"W_SITE_RULE"}, settings={
        "rules": [{"name": "r", "when": [{"tag": "StationName", "is": "MR1"}], "then": {"contrast": "T2"}}]}),
]  # fmt: skip

PAIRS = [
    Case("raw data in the series of the T1", s.changed(t1=c.foreign(RawDataStorage)), says={"E_NOT_MR"}),
    Case("a presentation state in the series of the T1", s.changed(t1=c.foreign(GrayscaleSoftcopyPresentationStateStorage, Modality="PR")), says={"E_NOT_MR"}),
    Case("a screenshot in the series of the T1", s.changed(t1=c.foreign(SecondaryCaptureImageStorage, Modality="OT")), says={"E_NOT_MR"}),
    Case("spectroscopy in the series of the T1", s.changed(t1=c.foreign(MRSpectroscopyStorage)), says={"E_NOT_MR"}),
    Case("a colour image in the series of the T1", s.changed(t1=c.foreign(MRImageStorage, PhotometricInterpretation="RGB")),
         says={"E_COLOUR", "E_ATTRIBUTES_MISSING", "E_CONTRAST_UNKNOWN", "E_NO_PIXELS"}),
    Case("no T1", s.changed(t1=lambda images: []), "E_NO_REFERENCE"),
    Case("an issuer that the PACS added", s.t1(IssuerOfPatientID="PACS")),
    Case("a birth date that only one side has", s.t1(PatientBirthDate=None)),
    Case("a name that only one side has", s.t2(PatientName="")),
    Case("a name in other letters", s.t1(PatientName="PHANTOM^ONE^^^")),
    Case("another issuer", s.changed(c.each(lambda ds, i: setattr(ds, "IssuerOfPatientID", "A")),
                                     c.each(lambda ds, i: setattr(ds, "IssuerOfPatientID", "B"))), "E_NO_REFERENCE", {"E_OTHER_PATIENT"}),
    Case("another birth date", s.t1(PatientBirthDate="19800101"), "E_NO_REFERENCE", {"E_OTHER_PATIENT"}),
    Case("another name", s.t1(PatientName="Other^Person"), "E_NO_REFERENCE", {"E_OTHER_PATIENT"}),
    Case("a birth date in some slices", s.changed(c.one(1, PatientBirthDate=None)), says={"W_PATIENT_RECORD_INCOMPLETE"}),
    Case("another patient", s.t1(PatientID="P2"), "E_NO_REFERENCE", {"E_OTHER_PATIENT"}),
    Case("another frame of reference", s.t1(FrameOfReferenceUID="1.2.3"), "E_NO_REFERENCE", {"E_FRAME_OF_REFERENCE"}),
    Case("tilted", s.changed(t1=c.tilted), "E_NO_REFERENCE", {"E_NOT_PARALLEL"}),
    Case("planes apart", s.changed(t1=c.each(lambda ds, i: c.move(ds, 2, 20))), "E_NO_REFERENCE", {"E_PLANES_APART"}),
    Case("another field of view", s.changed(t1=c.each(lambda ds, i: c.move(ds, 0, 40))), "E_NO_REFERENCE", {"E_FIELD_OF_VIEW"}),
    Case("a T1 as coarse as the T2", s.t1(PixelSpacing=[4, 4]), "E_NO_REFERENCE", {"E_REFERENCE_COARSE"}),
    Case("a T1 somewhat coarse", s.t1(PixelSpacing=[1.5, 1.5]), says={"W_REFERENCE_COARSE"}),
    Case("an interpolated T1", s.t1(AcquisitionMatrix=[0, 72, 80, 0]), says={"W_REFERENCE_INTERPOLATED", "W_REFERENCE_COARSE"}),
    Case("a T1 acquired as coarse as the T2", s.t1(AcquisitionMatrix=[0, 40, 44, 0]), "E_NO_REFERENCE",
         {"W_REFERENCE_INTERPOLATED", "E_REFERENCE_COARSE"}),
    Case("an interpolated T2", s.t2(AcquisitionMatrix=[0, 20, 20, 0]), says={"W_INTERPOLATED"}),
    Case("a T2 of unknown matrix", s.t2(AcquisitionMatrix=None), says={"W_ACQUIRED_MATRIX_UNKNOWN"}),
    Case("a T2 processed by the scanner", s.t2(ImageType=["DERIVED", "PRIMARY", "M", "DIS2D"]), says={"W_DERIVED"}),
    Case("fewer images than announced", s.t2(ImagesInAcquisition=9), says={"W_FEWER_THAN_ANNOUNCED"}),
    Case("every second image of an interleaved series", s.changed(c.each(lambda ds, i: setattr(ds, "InstanceNumber", 2 * i + 1))),
         says={"W_EVERY_SECOND_IMAGE"}),
    Case("a volume that leaves out a part", s.changed(t1=c.beside_in_3d), says={"W_FIELD_OF_VIEW"}),
]  # fmt: skip
