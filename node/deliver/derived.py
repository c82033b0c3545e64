"""The derived series: one MR Image Storage instance (PS3.3 A.4) for each super-resolved slice.

Identification of patient and study is copied as it stands, defects and all, so that the PACS files the series where
the sources are. Everything else is taken from a whitelist, so that private tags, overlays and lookup tables drop out,
and is mended where it does not conform: missing type 2 attributes are written empty, what is malformed is left out.

The same result and headers give the same bytes on any day: dates come from the sources, nothing is stamped with the
time of encoding, and identifiers are derived from everything that determines the content.
"""

import copy
import math
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import highdicom
import numpy as np
from highdicom import ContentQualificationValues, ContributingEquipment, SOPClass
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import config as pydicom_config
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000MC,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    MRImageStorage,
)
from pydicom.valuerep import format_number_as_ds, validate_value

from node import __version__
from node.archive import Result
from node.config import OutputSettings
from node.errors import NotFoundError

MANUFACTURER = "DiffMSR node project"
MODEL_NAME = "DiffMSR node"

_UID_NAMESPACE = uuid.UUID("3c1f4a0e-52a5-5a4e-9d5c-6c0f2d2b7f11")
"""Ours, so that no other software derives our identifiers. Never change it: a rerun would appear as a new series."""

# Copied attributes, by module (PS3.3 C.7, C.8.3.1); pixel description, position and spacing are recomputed.
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

_TYPE_2 = frozenset({
    "PatientPosition", "PositionReferenceIndicator", "ContentDate", "ContentTime", "SliceThickness", "ScanOptions",
    "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength",
})
"""Required, but may be empty: what to write when the source has none."""

_ENUMERATED = {
    "Laterality": {"R", "L"}, "ImageLaterality": {"R", "L", "U", "B"}, "MRAcquisitionType": {"2D", "3D"},
    "ScanningSequence": {"SE", "IR", "GR", "EP", "RM"}, "AngioFlag": {"Y", "N"}, "BeatRejectionFlag": {"Y", "N"},
    "SequenceVariant": {"SK", "MTC", "SS", "TRSS", "SP", "MP", "OSP", "NONE"}, "VariableFlipAngleFlag": {"Y", "N"},
    "InPlanePhaseEncodingDirection": {"ROW", "COL"},
}
# fmt: on

_TYPE_1_DEFAULTS = {"ScanningSequence": "RM", "SequenceVariant": "NONE"}
"""Required with a value: the standard's words for 'research mode' and 'no variant' when the source has none."""

_TEXT_LENGTH = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240}

_LOSSY_SYNTAXES = frozenset({
    JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, JPEG2000MC, HTJ2K,
})  # fmt: skip

_STORED_MAX = 65535
_FAINTEST_PEAK = 1024
"""A series whose brightest pixel is below this would lose visible detail to rounding, so it is scaled up."""


def derived_uid(*parts: str) -> str:
    """A UID (2.25, PS3.5 B.2) that depends on `parts` and on nothing else."""
    return f"2.25.{uuid.uuid5(_UID_NAMESPACE, chr(31).join(parts)).int}"


def intensity_factor(pixels: NDArray[np.float32]) -> float:
    """By what to multiply intensities before they are rounded to 16 bits: 1 wherever the sources' own unit serves, so
    that values stay comparable with them; else the power of two that brings the brightest pixel into range."""
    peak = float(pixels.max())
    if peak > _STORED_MAX:
        return float(2.0 ** math.floor(math.log2(_STORED_MAX / peak)))
    if 0 < peak < _FAINTEST_PEAK:
        return float(2.0 ** math.ceil(math.log2(_FAINTEST_PEAK / peak)))
    return 1.0


def to_bytes(instance: Dataset) -> bytes:
    """The instance as a DICOM Part 10 file, in the transfer syntax of its file meta information."""
    buffer = BytesIO()
    with pydicom_config.disable_value_validation():
        instance.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def series_numbers(headers: Iterable[Dataset]) -> set[int]:
    """The SeriesNumbers a study uses, our own output (which may have come back from the PACS) left out: a result's
    number must not depend on whether it was delivered before."""
    foreign = (h for h in headers if "SUPERRES" not in (h.get("ImageType") or ()))
    return {number for h in foreign if (number := _positive_int(h, "SeriesNumber")) is not None}


def encode_series(
    result: Result,
    target_headers: Iterable[Dataset],
    reference_headers: Iterable[Dataset],
    settings: OutputSettings,
    *,
    taken_series_numbers: Collection[int] = (),
    salt: str = "",
    software_version: str = __version__,
    on_mend: Callable[[str], None] = lambda _: None,
) -> list["DerivedMRImage"]:
    """Encode `result` as one derived series of its target's study, an instance a slice, in the result's order.

    The headers are those of the source instances, in any order, with file meta information where there is some; pixel
    data is not looked at. `taken_series_numbers` are those already used in the study; `salt` makes other UIDs, for a
    rerun that is forced although nothing changed. `on_mend` is told once of each attribute that had to be mended or
    left out. Raises NotFoundError when the header of a source is missing.
    """
    headers = {str(header.SOPInstanceUID): header for header in (*target_headers, *reference_headers)}
    missing = {uid for uids in (result.source_uids, *result.reference_uids) for uid in uids} - headers.keys()
    if missing:
        raise NotFoundError(f"the header of source instance {min(missing)} is missing; {len(missing)} in all")

    first = headers[result.source_uids[0]]
    number = settings.series_number_offset + (_positive_int(first, "SeriesNumber") or 1)
    while number in taken_series_numbers:
        number += 1000
    series_uid = derived_uid(
        *result.source_uids, *(",".join(uids) for uids in result.reference_uids), result.weights_sha256,
        *(f"{key}={value}" for key, value in sorted(result.parameters.items())), settings.model_dump_json(), str(number),
        software_version, highdicom.__version__, salt,
    )  # fmt: skip
    series = _Series(
        result=result,
        uid=series_uid,
        number=number,
        header=first,
        factor=intensity_factor(result.pixels),
        settings=settings,
        software_version=software_version,
        mends=[],
    )
    sources = [headers[uid] for uid in result.source_uids]
    with pydicom_config.disable_value_validation():  # its log quotes malformed values, which may be patient data
        instances = [
            DerivedMRImage(series, i, sources[i], [headers[uid] for uid in result.reference_uids[i]], instance_number)
            for i, instance_number in enumerate(_instance_numbers(sources))
        ]
    for mend in dict.fromkeys(series.mends):
        on_mend(mend)
    return instances


@dataclass(frozen=True)
class _Series:
    """What all instances of the series share. `header` is the first slice's: series attributes come from it alone."""

    result: Result
    uid: str
    number: int
    header: Dataset
    factor: float
    settings: OutputSettings
    software_version: str
    mends: list[str]


class DerivedMRImage(SOPClass):
    """One super-resolved slice, as a classic MR Image Storage instance that is unmistakably marked as derived."""

    def __init__(
        self, series: _Series, index: int, source: Dataset, references: Sequence[Dataset], instance_number: int
    ) -> None:
        super().__init__(
            study_instance_uid=series.header.StudyInstanceUID,
            series_instance_uid=series.uid,
            series_number=series.number,
            sop_instance_uid=derived_uid(series.uid, source.SOPInstanceUID),
            sop_class_uid=MRImageStorage,
            instance_number=instance_number,
            modality="MR",
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL_NAME,
            software_versions=series.software_version,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            content_qualification=ContentQualificationValues.RESEARCH,
        )
        # highdicom stamps the time of encoding, which would make other bytes of the same content.
        del self.InstanceCreationDate, self.InstanceCreationTime
        self._copy_identification(series.header)
        self._copy_series(series)
        self._copy_acquisition(source, series.mends)
        self._mark(series)
        self._refer_to(series, source, references)
        self._place(series.result, index)
        self._set_pixels(series, index, source)

    def _copy_identification(self, header: Dataset) -> None:
        if "SpecificCharacterSet" in header:
            self.SpecificCharacterSet = header.SpecificCharacterSet
        for keyword in (*PATIENT, *CLINICAL_TRIAL, *STUDY):
            element = _readable(header, keyword)
            if element is not None:
                self.add(element)  # else what the base class wrote stands: type 2 attributes empty

    def _copy_series(self, series: _Series) -> None:
        self._copy_mended(series.header, (*DEIDENTIFICATION, *SERIES), series.mends)
        if "BodyPartExamined" not in self and "Laterality" not in self:
            self.Laterality = None  # type 2C: whether the part is one of a pair is not known
        if "FrameOfReferenceUID" not in self:
            self.FrameOfReferenceUID = derived_uid(series.header.get("SeriesInstanceUID", ""), "frame of reference")
        original = "".join(
            c for c in str(series.header.get("SeriesDescription") or "MR") if c.isprintable() and c != "\\"
        )
        self.SeriesDescription = f"{series.settings.series_description_prefix}{original}"[:64].strip()

    def _copy_acquisition(self, source: Dataset, mends: list[str]) -> None:
        self._copy_mended(source, (*ACQUISITION, *CONTRAST, *MR), mends)
        if "ImageLaterality" in self and "Laterality" in self:
            del self.Laterality
        if any(keyword in self for keyword in CONTRAST) and "ContrastBolusAgent" not in self:
            self.ContrastBolusAgent = None
        if "IR" not in np.atleast_1d(self.ScanningSequence):
            self.pop(
                "InversionTime", None
            )  # type 2C: allowed with inversion recovery only, though some scanners write it
        elif "InversionTime" not in self:
            self.InversionTime = None

    def _copy_mended(self, header: Dataset, keywords: Iterable[str], mends: list[str]) -> None:
        for keyword in keywords:
            element = _mended(header, keyword, mends)
            if element is not None:
                self.add(element)
            elif keyword in _TYPE_1_DEFAULTS:
                setattr(self, keyword, _TYPE_1_DEFAULTS[keyword])
            elif keyword in _TYPE_2:
                setattr(self, keyword, None)

    def _mark(self, series: _Series) -> None:
        """Say what made this image, and from what kind of thing."""
        result = series.result
        self.ImageType = ["DERIVED", "SECONDARY", "OTHER", "AI", "SUPERRES"]
        if series.settings.synthetic_data:
            self.SyntheticData = "YES"
        self.DerivationCodeSequence = [
            CodedConcept("113085", "DCM", "Spatial resampling"),
            CodedConcept("123110", "DCM", "Artificial Intelligence"),
        ]
        parameters = ", ".join(f"{key} {value}" for key, value in sorted(result.parameters.items()))
        self.DerivationDescription = (
            f"{result.scale}x in-plane super-resolution with {result.model_name} {result.model_version} "
            f"(weights SHA-256 {result.weights_sha256}), guided by a reference series. "
            f"Stored value = source intensity x {series.factor:g}. "
            f"For research use only, not for diagnosis. Parameters: {parameters or 'none'}."
        )[: _TEXT_LENGTH["ST"]]
        processing = codes.DCM.ProcessingEquipment
        self._add_contributing_equipment(
            [
                ContributingEquipment(
                    MANUFACTURER, processing, manufacturer_model_name=MODEL_NAME,
                    software_versions=[series.software_version], contribution_description="Resampling and encoding",
                ),
                ContributingEquipment(
                    MANUFACTURER, processing, manufacturer_model_name=f"DiffMSR {result.model_name}"[:64],
                    software_versions=[result.model_version, result.weights_sha256],
                    contribution_description="Super-resolution model; software versions: model, SHA-256 of its weights",
                ),
            ],
            source_image=series.header,
        )  # fmt: skip
        # The last item is highdicom's own, dated today.
        del self.ContributingEquipmentSequence[-1].ContributionDateTime

    def _refer_to(self, series: _Series, source: Dataset, references: Sequence[Dataset]) -> None:
        image_processing = CodedConcept("121322", "DCM", "Source image for image processing operation")
        structural = CodedConcept("128250", "DCM", "Structural image for image processing")
        self.SourceImageSequence = [
            _source_image(source, image_processing), *(_source_image(header, structural) for header in references)
        ]  # fmt: skip
        by_series: dict[str, list[Dataset]] = {}
        for header in (source, *references):
            by_series.setdefault(str(header.SeriesInstanceUID), []).append(header)
        self.ReferencedSeriesSequence = [_referenced_series(uid, headers) for uid, headers in by_series.items()]

        burned = [str(header.get("BurnedInAnnotation", "")) for header in (source, *references)]
        if "YES" in burned:
            self.BurnedInAnnotation = "YES"
        elif set(burned) == {"NO"}:
            self.BurnedInAnnotation = "NO"
        lossy = [header for header in (source, *references) if _is_lossy(header)]
        self.LossyImageCompression = "01" if lossy else "00"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            element = _mended(lossy[0], keyword, series.mends) if lossy else None
            if element is not None:
                self.add(element)

    def _place(self, result: Result, index: int) -> None:
        self.ImagePositionPatient = _decimals(result.positions[index])
        self.ImageOrientationPatient = _decimals(np.ravel(result.orientation))
        self.PixelSpacing = _decimals(result.spacing)

    def _set_pixels(self, series: _Series, index: int, source: Dataset) -> None:
        stored = np.clip(np.rint(series.result.pixels[index] * series.factor), 0, _STORED_MAX).astype("<u2")
        self.SamplesPerPixel = 1
        self.PhotometricInterpretation = "MONOCHROME2"
        self.Rows, self.Columns = stored.shape
        self.BitsAllocated, self.BitsStored, self.HighBit = 16, 16, 15
        self.PixelRepresentation = 0
        self.SmallestImagePixelValue, self.LargestImagePixelValue = int(stored.min()), int(stored.max())
        center, width = _window(source, series.factor) or (stored.max() / 2, float(stored.max()))
        self.WindowCenter, self.WindowWidth = _decimals([center, max(width, 1.0)])
        self.PixelData = stored.tobytes()
        self["PixelData"].VR = "OW"


def _instance_numbers(sources: Sequence[Dataset]) -> list[int]:
    """The sources' own numbers where they are all there and all different, so that slices sort alike; else 1, 2, …"""
    numbers = [_positive_int(source, "InstanceNumber") or 0 for source in sources]
    if 0 not in numbers and len(set(numbers)) == len(numbers):
        return numbers
    return list(range(1, len(sources) + 1))


def _window(source: Dataset, factor: float) -> tuple[float, float] | None:
    """The source's first window (PS3.3 C.11.2), in our stored values; None where it has none that applies to them."""
    if source.get("PhotometricInterpretation") == "MONOCHROME1":
        return None
    try:
        center, width = (
            np.atleast_1d(np.asarray(source[k].value, dtype=float))[0] for k in ("WindowCenter", "WindowWidth")
        )
    except (KeyError, ValueError, TypeError, IndexError):
        return None
    return (center * factor, width * factor) if width > 0 and np.isfinite([center, width]).all() else None


def _source_image(header: Dataset, purpose: CodedConcept) -> Dataset:
    item = _reference(header)
    item.SpatialLocationsPreserved = "NO"
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def _referenced_series(uid: str, headers: Sequence[Dataset]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = uid
    item.ReferencedInstanceSequence = [_reference(header) for header in headers]
    return item


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item


def _is_lossy(header: Dataset) -> bool:
    syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", None)
    return header.get("LossyImageCompression") == "01" or syntax in _LOSSY_SYNTAXES


def _readable(header: Dataset, keyword: str) -> DataElement | None:
    """A copy of the attribute, without private tags in its items; None when it is not there or cannot be parsed."""
    try:
        element = copy.deepcopy(header[keyword])
        for item in element.value if element.VR == "SQ" else ():
            item.remove_private_tags()
    except Exception:  # pydicom parses on access, and malformed bytes fail in as many ways as there are VRs
        return None
    return element


def _mended(header: Dataset, keyword: str, mends: list[str]) -> DataElement | None:
    """A copy of the attribute that conforms; None when it is not there, empty, or beyond mending."""
    if keyword not in header:
        return None
    element = _readable(header, keyword)
    if element is not None and element.is_empty:
        return None
    if element is None or dictionary_VR(keyword) != element.VR or not _vm_allowed(keyword, element.VM):
        mends.append(f"{keyword} left out: its value is malformed")
        return None
    if element.VR == "SQ":
        if all(_conforms(item) for item in element.value):
            return element
        mends.append(f"{keyword} left out: an item is malformed")
        return None
    values = [_valid(element.VR, value) for value in (element.value if element.VM > 1 else [element.value])]
    allowed = _ENUMERATED.get(keyword)
    if None in values or (allowed is not None and not allowed.issuperset(values)):
        mends.append(f"{keyword} left out: its value is not one the standard allows")
        return None
    mended = DataElement(element.tag, element.VR, values if element.VM > 1 else values[0])
    if mended.value != element.value:
        mends.append(f"{keyword} shortened to what the standard allows")
    return mended


def _conforms(item: Dataset) -> bool:
    """Whether every attribute of a sequence item, and of the items in it, is fit to be written as it is."""
    mends: list[str] = []
    for element in item:
        _mended(item, element.keyword, mends)
    return not mends


def _valid(vr: str, value: Any) -> Any:
    """The value itself, or a shorter one that its VR allows, or None."""
    if vr in _TEXT_LENGTH:
        value = str(value)[: _TEXT_LENGTH[vr]]
    elif vr == "DS" and len(str(value)) > 16 and math.isfinite(value):
        value = format_number_as_ds(float(value))
    try:
        validate_value(vr, str(value) if vr in ("DS", "IS") else value, pydicom_config.RAISE)
    except ValueError:
        return None
    return value


def _vm_allowed(keyword: str, vm: int) -> bool:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    least, _, most = dictionary_VM(tag).partition("-")
    return int(least) <= vm and (most.endswith("n") or vm <= int(most or least))


def _positive_int(header: Dataset, keyword: str) -> int | None:
    try:
        number = int(header[keyword].value)
    except (KeyError, TypeError, ValueError):
        return None
    return number if 0 < number < 2**31 - 100_000 else None


def _decimals(values: Iterable[float] | NDArray[np.float64]) -> list[str]:
    """Decimal strings (at most 16 characters) nearest to the values."""
    return [format_number_as_ds(float(value)) for value in values]
