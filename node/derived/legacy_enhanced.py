"""The derived series as one Legacy Converted Enhanced MR image (PS3.3 A.70): one frame per super-resolved slice."""

import highdicom.legacy
from pydicom.dataset import Dataset

from node.derived.copied_attributes import CLINICAL_TRIAL, CONTRAST
from node.derived.corrections import copy_identification, undate, unidentified
from node.derived.identifiers import derived_uid
from node.derived.mr import mr_images
from node.derived.series import DerivedSeries


def legacy_enhanced_image(series: DerivedSeries) -> Dataset:
    """The MR instances as frames of one instance, ordered along the slice normal."""
    frames = [unidentified(image) for image in mr_images(series)]
    first = frames[0]
    for frame in frames:
        if any("CodeMeaning" not in region for region in frame.get("AnatomicRegionSequence", ())):
            del frame.AnatomicRegionSequence  # the conversion names the body part after it
        if not frame.get("Laterality"):
            frame.pop("Laterality", None)  # empty means missing, but the conversion would write it
    image = highdicom.legacy.LegacyConvertedEnhancedMRImage(
        frames,
        series_instance_uid=series.uid,
        series_number=series.number,
        sop_instance_uid=derived_uid(series.uid, "legacy converted enhanced"),
        instance_number=1,
        skip_private_attributes=True,
    )
    for keyword in (*CLINICAL_TRIAL, *CONTRAST, "ClinicalTrialCoordinatingCenterName"):
        if keyword not in first:
            image.pop(keyword, None)  # otherwise written empty, as if there had been a trial or a contrast agent
    copy_identification(image, series.header, [])
    image.SeriesDescription = first.SeriesDescription
    _say_body_part(image, first)
    _make_deterministic(image, series)
    _drop_intermediate(image)
    _refer_to_sources(image, series)
    image.LossyImageCompression = max(frame.LossyImageCompression for frame in frames)
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        lossy = next((frame for frame in frames if keyword in frame), None)
        if lossy is not None:
            image.add(lossy[keyword])
    burned = {frame.get("BurnedInAnnotation") for frame in frames}
    if "YES" in burned:
        image.BurnedInAnnotation = "YES"
    elif burned == {"NO"}:
        image.BurnedInAnnotation = "NO"
    return image


def _make_deterministic(image: Dataset, series: DerivedSeries) -> None:
    """Remove the time of encoding and random identifiers."""
    undate(image)
    organization = derived_uid(series.uid, "dimension organization")
    for item in (*image.get("DimensionOrganizationSequence", ()), *image.get("DimensionIndexSequence", ())):
        item.DimensionOrganizationUID = organization


def _say_body_part(image: Dataset, first: Dataset) -> None:
    """Where FrameAnatomySequence or its required laterality is missing, write the body part as in MR."""
    for groups in (*image.SharedFunctionalGroupsSequence, *image.PerFrameFunctionalGroupsSequence):
        if any(not item.get("FrameLaterality") for item in groups.get("FrameAnatomySequence", ())):
            del groups.FrameAnatomySequence
    if not any(element.keyword == "FrameAnatomySequence" for element in image.iterall()):
        if "BodyPartExamined" in first:
            image.BodyPartExamined = first.BodyPartExamined
        else:
            image.Laterality = first.get("Laterality")


def _drop_intermediate(image: Dataset) -> None:
    """Remove references to the MR instances, which exist only during the conversion."""
    for frame in image.PerFrameFunctionalGroupsSequence:
        frame.pop("ConversionSourceAttributesSequence", None)
        for unassigned in frame.get("UnassignedPerFrameConvertedAttributesSequence", ()):
            unassigned.pop("ReferencedSeriesSequence", None)
    image.pop("ReferencedSeriesSequence", None)


def _refer_to_sources(image: Dataset, series: DerivedSeries) -> None:
    """SourceImageEvidenceSequence (PS3.3 C.8.13.2): every instance that a frame names as its source."""
    by_series: dict[str, dict[str, Dataset]] = {}
    for header in (h for headers in (series.sources, *series.references) for h in headers):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        by_series.setdefault(str(header.SeriesInstanceUID), {})[str(header.SOPInstanceUID)] = item
    study = Dataset()
    study.StudyInstanceUID = series.header.StudyInstanceUID
    study.ReferencedSeriesSequence = []
    for uid, items in by_series.items():
        one = Dataset()
        one.SeriesInstanceUID, one.ReferencedSOPSequence = uid, list(items.values())
        study.ReferencedSeriesSequence.append(one)
    image.SourceImageEvidenceSequence = [study]
