"""The attributes that are copied from a source, by module (PS3.3 C.7, C.8.3.1), and what the standard requires of them.

This is a whitelist, so private tags, overlays and lookup tables are dropped. Pixel description, position and spacing are
not in it, because they are recomputed.
"""

# fmt: off

PATIENT = (
    "PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence",
    "PatientBirthDate", "PatientBirthTime", "PatientSex", "QualityControlSubject", "OtherPatientNames",
    "OtherPatientIDsSequence", "ReferencedPatientSequence", "EthnicGroup", "PatientComments",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence",
    "BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization",
)
CLINICAL_TRIAL = (
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription", "ClinicalTrialProtocolEthicsCommitteeName",
    "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
)
STUDY = (
    "StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "IssuerOfAccessionNumberSequence",
    "StudyDescription", "ReferringPhysicianName", "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "ProcedureCodeSequence",
    "ReferencedStudySequence", "ReasonForPerformedProcedureCodeSequence", "PatientAge", "PatientSize",
    "PatientWeight", "AdmittingDiagnosesDescription", "MedicalAlerts", "Allergies", "Occupation", "SmokingStatus",
    "AdditionalPatientHistory", "PregnancyStatus", "LastMenstrualDate", "PatientSexNeutered", "AdmissionID",
    "LongitudinalTemporalInformationModified",
)
DEIDENTIFICATION = ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence")
SERIES = (
    "SeriesDate", "SeriesTime", "BodyPartExamined", "Laterality", "PatientPosition", "ProtocolName",
    "RequestAttributesSequence", "ClinicalTrialCoordinatingCenterName", "ClinicalTrialSeriesID",
    "ClinicalTrialSeriesDescription", "FrameOfReferenceUID", "PositionReferenceIndicator", "TimezoneOffsetFromUTC",
)
ACQUISITION = (
    "ContentDate", "ContentTime", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "AcquisitionNumber",
    "AcquisitionDuration", "AcquisitionUID", "ImagesInAcquisition", "AnatomicRegionSequence",
    "PrimaryAnatomicStructureSequence", "ImageLaterality", "SliceThickness", "SpacingBetweenSlices", "SliceLocation",
)
CONTRAST = (
    "ContrastBolusAgent", "ContrastBolusAgentSequence", "ContrastBolusAdministrationRouteSequence",
    "ContrastBolusRoute", "ContrastBolusVolume", "ContrastBolusStartTime", "ContrastBolusStopTime",
    "ContrastBolusTotalDose", "ContrastFlowRate", "ContrastFlowDuration", "ContrastBolusIngredient",
    "ContrastBolusIngredientConcentration",
)
MR = (
    "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "SequenceName", "AngioFlag",
    "RepetitionTime", "EchoTime", "InversionTime", "NumberOfAverages", "ImagingFrequency", "ImagedNucleus",
    "EchoNumbers", "MagneticFieldStrength", "NumberOfPhaseEncodingSteps", "EchoTrainLength", "PercentSampling",
    "PercentPhaseFieldOfView", "PixelBandwidth", "TriggerTime", "NominalInterval", "BeatRejectionFlag", "LowRRValue",
    "HighRRValue", "IntervalsAcquired", "IntervalsRejected", "PVCRejection", "SkipBeats", "HeartRate",
    "CardiacNumberOfImages", "TriggerWindow", "ReconstructionDiameter", "ReceiveCoilName", "TransmitCoilName",
    "AcquisitionMatrix", "InPlanePhaseEncodingDirection", "FlipAngle", "VariableFlipAngleFlag", "SAR", "dBdt", "B1rms",
    "TemporalPositionIdentifier", "NumberOfTemporalPositions", "TemporalResolution",
)

EQUIPMENT = (
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber", "InstitutionName",
    "InstitutionalDepartmentName", "InstitutionAddress", "StationName", "AcquisitionDateTime",
)
"""Of the scanner, for ContributingEquipmentSequence."""

TYPE_2 = frozenset({
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName",
    "PatientPosition", "PositionReferenceIndicator", "ContentDate", "ContentTime", "SliceThickness", "ScanOptions",
    "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength",
})
"""Required, but may be empty: written empty when the source has none."""

ENUMERATED = {
    "PatientSex": {"M", "F", "O"},
    "Laterality": {"R", "L"}, "ImageLaterality": {"R", "L", "U", "B"}, "MRAcquisitionType": {"2D", "3D"},
    "ScanningSequence": {"SE", "IR", "GR", "EP", "RM"}, "AngioFlag": {"Y", "N"}, "BeatRejectionFlag": {"Y", "N"},
    "SequenceVariant": {"SK", "MTC", "SS", "TRSS", "SP", "MP", "OSP", "NONE"}, "VariableFlipAngleFlag": {"Y", "N"},
    "InPlanePhaseEncodingDirection": {"ROW", "COL"},
}
# fmt: on

TYPE_1_DEFAULTS = {"ScanningSequence": "RM", "SequenceVariant": "NONE"}
"""Required with a value: the standard's terms for 'research mode' and 'no variant', when the source has none."""
