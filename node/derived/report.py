"""The report on a result as DICOM SR: TID 1500 Measurement Report (PS3.16), one measurement group for the derived series."""

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Literal

import numpy as np
from highdicom import ContentQualificationValues
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurement,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DS

from node.derived.corrections import copy_identification, undate, unidentified
from node.derived.findings import RESEARCH_NOTICE, Findings, Measure
from node.derived.identifiers import REPORT, derived_uid
from node.derived.series import DerivedSeries
from node.dicom.stored_values import decimals
from node.identity import MANUFACTURER, MODEL_NAME
from node.result import Acquired

SCHEME = "99DIFFMSR"

_UNITS = {
    "1": CodedConcept("1", "UCUM", "no units"),
    "mm": CodedConcept("mm", "UCUM", "mm"),
    "deg": CodedConcept("deg", "UCUM", "degrees"),
}
_IMAGING_MEASUREMENTS = CodedConcept("126010", "DCM", "Imaging Measurements")
_MEAN = CodedConcept("373098007", "SCT", "Mean")
_MAXIMUM = CodedConcept("56851009", "SCT", "Maximum")


def sr_report(
    series: DerivedSeries,
    images: Sequence[Dataset],
    findings: Findings,
    sop_class: Literal["comprehensive_3d", "comprehensive"],
) -> Dataset:
    """The report on `images`, as a series of its own in their study. The same findings give the same bytes."""
    content = hashlib.sha256(json.dumps(asdict(findings), default=lambda e: e.name).encode()).hexdigest()
    uid = derived_uid(series.uid, "report", sop_class, content)
    date, time = series.moment
    shown = _shown(images, series.result.positions)
    document: Dataset = {"comprehensive_3d": Comprehensive3DSR, "comprehensive": ComprehensiveSR}[sop_class](
        evidence=[unidentified(image) for image in images],
        content=_measurement_report(series, images, findings, uid, shown[0])[0],
        series_instance_uid=uid,
        series_number=series.number + REPORT,
        sop_instance_uid=derived_uid(uid, "document"),
        instance_number=1,
        is_complete=True,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_qualification=ContentQualificationValues.RESEARCH,
        coding_schemes=[
            CodingSchemeIdentificationItem(SCHEME, name="DiffMSR node", responsible_organization=MANUFACTURER)
        ],
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=series.software_version,
        content_date=date,
        content_time=time,
    )
    for element in list(document.iterall()):
        if element.keyword == "ContinuityOfContent":
            element.value = "SEPARATE"  # in running text viewers show the figures without their names
    _measure_further_slices(document, findings, shown)
    undate(document)
    copy_identification(document, series.header, [])
    document.SeriesDescription = series.titled("report ")
    if series.settings.synthetic_data:
        document.SyntheticData = "YES"
    return document


def _measurement_report(
    series: DerivedSeries, images: Sequence[Dataset], findings: Findings, uid: str, first: SourceImageForMeasurement
) -> MeasurementReport:
    """With each measure of the first slice alone: see `_measure_further_slices`."""
    observer = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", series.software_version),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=f"{MODEL_NAME} {series.software_version}",
    )
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derived_uid(uid, "tracking"), identifier=f"Derived series {series.number}"
        ),
        algorithm_id=_algorithm(series),
        measurements=list(_measurements(findings, first)),
        qualitative_evaluations=_evaluations(findings),
        source_images=[
            SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID) for image in images
        ],
    )  # fmt: skip
    group[0].ContentSequence.extend(_comments(findings))
    return MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(codes.DCM.Device, observer)
        ),
        procedure_reported=CodedConcept("25056-3", "LN", "MRI unspecified body region"),
        imaging_measurements=[group],
    )  # fmt: skip


def _algorithm(series: DerivedSeries) -> AlgorithmIdentification:
    result = series.result
    parameters = {
        "weights SHA-256": result.weights_sha256,
        "scale": f"{result.scale} in-plane",
        "stored value over source intensity": f"{series.factor:g}",
        **result.parameters,
    }
    return AlgorithmIdentification(
        name=_ascii(f"DiffMSR {result.model_name}"),
        version=_ascii(result.model_version),
        family=codes.DCM.ArtificialIntelligence,
        parameters=[_ascii(f"{key} = {value}") for key, value in sorted(parameters.items())],
    )


def _measurements(findings: Findings, first: SourceImageForMeasurement) -> Iterator[Measurement]:
    """For each measure its worst and mean over the series, then the value of the first slice with its image."""
    for measure in findings.measures:
        if measure.slices is None:
            yield _measurement(measure, measure.value or 0.0)
            continue
        yield _measurement(measure, measure.worst, derivation=_MAXIMUM)
        yield _measurement(measure, measure.mean, derivation=_MEAN)
        yield _measurement(measure, measure.slices[0], image=first)


def _measure_further_slices(document: Dataset, findings: Findings, shown: Sequence[SourceImageForMeasurement]) -> None:
    """Behind each measurement of the first slice add those of the other slices. All but value and image they share: to make
    hundreds of them one by one would take longer than the images of the series."""
    slices = {measure.code: measure.slices for measure in findings.measures if measure.slices is not None}
    imaging = next(
        item for item in document.ContentSequence if item.ConceptNameCodeSequence[0] == _IMAGING_MEASUREMENTS
    )
    (group,) = imaging.ContentSequence
    complete = []
    for item in group.ContentSequence:
        complete.append(item)
        values = slices.get(item.ConceptNameCodeSequence[0].get("CodeValue"))
        if values is not None and item.ContentSequence[0].ValueType == "IMAGE":
            complete += [_of_slice(item, *further) for further in zip(values[1:], shown[1:], strict=True)]
    group.add(DataElement("ContentSequence", "SQ", complete))


def _of_slice(measurement: Dataset, value: float, image: SourceImageForMeasurement) -> Dataset:
    """The measurement of the first slice, with the value and the image of another one."""
    written = _written(value)
    measured = _changed(
        measurement.MeasuredValueSequence[0],
        DataElement("NumericValue", "DS", DS(written, auto_format=True)),
        DataElement("FloatingPointValue", "FD", written),
    )
    source = _changed(measurement.ContentSequence[0], image["ReferencedSOPSequence"])
    return _changed(
        measurement,
        DataElement("MeasuredValueSequence", "SQ", [measured]),
        DataElement("ContentSequence", "SQ", [source]),
    )


def _changed(item: Dataset, *elements: DataElement) -> Dataset:
    """A copy of an item with other values of these elements, and the same elements besides."""
    copy = Dataset()
    copy.update(item)
    for element in elements:
        copy.add(element)
    return copy


def _measurement(
    measure: Measure,
    value: float,
    derivation: CodedConcept | None = None,
    image: SourceImageForMeasurement | None = None,
) -> Measurement:
    return Measurement(
        name=CodedConcept(measure.code, SCHEME, measure.name),
        value=_written(value),
        unit=_UNITS[measure.unit],
        derivation=derivation,
        referenced_images=None if image is None else [image],
    )


def _written(value: float) -> float:
    return float(f"{value:.6g}")


def _shown(images: Sequence[Dataset], positions: NDArray[np.float64]) -> list[SourceImageForMeasurement]:
    """For each slice the image, or the frame, that shows it."""
    by_place: dict[tuple[float, ...], tuple[Dataset, list[int] | None]] = {}
    for image in images:
        if "ImagePositionPatient" in image:
            by_place[tuple(map(float, image.ImagePositionPatient))] = image, None
            continue
        for number, frame in enumerate(image.PerFrameFunctionalGroupsSequence, start=1):
            by_place[tuple(map(float, frame.PlanePositionSequence[0].ImagePositionPatient))] = image, [number]
    found = [by_place[tuple(map(float, decimals(position)))] for position in positions]
    return [SourceImageForMeasurement(image.SOPClassUID, image.SOPInstanceUID, frames) for image, frames in found]


def _evaluations(findings: Findings) -> list[QualitativeEvaluation]:
    if findings.grade.code is None:
        return []
    value = CodedConcept(findings.grade.code, "DCM", findings.grade.meaning)
    return [QualitativeEvaluation(name=codes.DCM.ImagingSeriesQuality, value=value)]


def _comments(findings: Findings) -> Iterator[TextContentItem]:
    quality = [] if findings.grade.code else ["Quality: not measured."]
    acquired = [] if findings.acquired is None else list(_acquisition(findings.acquired))
    for text in (RESEARCH_NOTICE, *quality, *findings.reasons, *findings.warnings, *acquired):
        yield TextContentItem(
            name=codes.DCM.Comment, value=_ascii(text), relationship_type=RelationshipTypeValues.CONTAINS
        )


def _acquisition(acquired: Acquired) -> Iterator[str]:
    for fact in acquired.facts:
        sure = "" if fact.confidence is None else f", confidence {fact.confidence:.2f}"
        yield f"Acquisition of the target: {fact.name}: {fact.value} (source: {fact.source}{sure})."
    yield f"Undone before super-resolution: {', '.join(acquired.undone) or 'nothing'}."


def _ascii(text: str) -> str:
    """The text in ASCII, which every character set of a source can express."""
    return unicodedata.normalize("NFKD", text).replace("×", "x").encode("ascii", "replace").decode()
