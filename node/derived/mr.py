"""The derived series as MR Image Storage (PS3.3 A.4): one instance per super-resolved slice."""

from collections.abc import Sequence

import numpy as np
from highdicom import ContentQualificationValues, SOPClass
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from node.derived.copied_attributes import ACQUISITION, CONTRAST, DEIDENTIFICATION, EQUIPMENT, MR, SERIES
from node.derived.corrections import (
    TEXT_LENGTH,
    Copies,
    complete_laterality,
    copy_corrected,
    copy_identification,
    corrected,
)
from node.derived.identifiers import derived_uid, instance_numbers
from node.derived.series import DerivedSeries
from node.dicom.frames import compressed_with_loss, frame_number
from node.dicom.stored_values import decimals, stored_values, window
from node.identity import MANUFACTURER, MODEL_NAME

_PROCESSED = CodedConcept("121322", "DCM", "Source image for image processing operation")
_STRUCTURAL = CodedConcept("128250", "DCM", "Structural image for image processing")
_OWN = ("SOPInstanceUID", "MediaStorageSOPInstanceUID", "InstanceNumber")


def mr_images(series: DerivedSeries) -> list[Dataset]:
    """One instance per slice, in the order of the result, as a classic MR Image Storage instance that is unmistakably marked
    as derived."""
    shared, copies = _Shared(series), Copies(series.corrections)
    numbers = instance_numbers(series.sources)
    return [_image(shared, copies, series, index, number) for index, number in enumerate(numbers)]


class _Shared(SOPClass):
    """What all images of a series have in common. It is made once, since most of the time of encoding would go into it."""

    def __init__(self, series: DerivedSeries) -> None:
        super().__init__(
            study_instance_uid=series.header.StudyInstanceUID,
            series_instance_uid=series.uid,
            series_number=series.number,
            sop_instance_uid=series.uid,  # each image has one of its own
            sop_class_uid=MRImageStorage,
            instance_number=1,
            modality="MR",
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL_NAME,
            software_versions=series.software_version,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            content_qualification=ContentQualificationValues.RESEARCH,
        )
        # highdicom adds the time of encoding, which would give different bytes for the same content.
        del self.InstanceCreationDate, self.InstanceCreationTime
        copy_identification(self, series.header, series.corrections)
        self._copy_series(series)
        self._mark(series)

    def _copy_series(self, series: DerivedSeries) -> None:
        copy_corrected(self, series.header, (*DEIDENTIFICATION, *SERIES), series.corrections)
        complete_laterality(self)
        if "FrameOfReferenceUID" not in self:
            self.FrameOfReferenceUID = derived_uid(series.header.get("SeriesInstanceUID", ""), "frame of reference")
        self.SeriesDescription = series.titled(instead="MR")

    def _mark(self, series: DerivedSeries) -> None:
        """Mark the image as derived, and name the equipment that made it."""
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
        )[: TEXT_LENGTH["ST"]]
        scanner = Dataset()
        scanner.SOPClassUID = series.header.SOPClassUID
        copy_corrected(scanner, series.header, EQUIPMENT, series.corrections)
        self._add_contributing_equipment(series.equipment, source_image=scanner)
        # The last item is added by highdicom, with today's date.
        del self.ContributingEquipmentSequence[-1].ContributionDateTime


def _image(shared: _Shared, copies: Copies, series: DerivedSeries, index: int, number: int) -> Dataset:
    source, references = series.sources[index], series.references[index]
    image = Dataset()
    image.file_meta = FileMetaDataset()
    # An element that is set anew would change in all images, so what is the image's own is not taken over.
    image.update({element.tag: element for element in shared if element.keyword not in _OWN})
    image.file_meta.update({element.tag: element for element in shared.file_meta if element.keyword not in _OWN})
    image.SOPInstanceUID = derived_uid(series.uid, str(index), source.SOPInstanceUID)
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.InstanceNumber = number
    _copy_acquisition(image, source, copies, series.corrections)
    _refer_to(image, series, source, references)
    _place(image, series, index)
    _set_pixels(image, series, index, source)
    return image


def _copy_acquisition(image: Dataset, source: Dataset, copies: Copies, corrections: list[str]) -> None:
    copies.copy(image, source, (*ACQUISITION, *CONTRAST, *MR))
    if "PixelAspectRatio" in source and "PixelSpacing" in source:
        corrections.append("PixelAspectRatio left out: not allowed beside PixelSpacing")
    if "ImageLaterality" in image and "Laterality" in image:
        del image.Laterality
        corrections.append("Laterality left out: not allowed beside ImageLaterality")
    if any(keyword in image for keyword in CONTRAST) and "ContrastBolusAgent" not in image:
        image.ContrastBolusAgent = None
    # Type 2C: only allowed with inversion recovery, although some scanners always write it.
    if "IR" in np.atleast_1d(image.ScanningSequence):
        image.setdefault("InversionTime", None)
    elif "InversionTime" in image:
        del image.InversionTime
        corrections.append("InversionTime left out: the scanning sequence is not inversion recovery")


def _refer_to(image: Dataset, series: DerivedSeries, source: Dataset, references: Sequence[Dataset]) -> None:
    image.SourceImageSequence = [
        _source_image(source, _PROCESSED), *(_source_image(header, _STRUCTURAL) for header in references)
    ]  # fmt: skip
    by_series: dict[str, list[Dataset]] = {}
    for header in (source, *references):
        by_series.setdefault(str(header.SeriesInstanceUID), []).append(header)
    image.ReferencedSeriesSequence = [_referenced_series(uid, headers) for uid, headers in by_series.items()]

    burned = [str(header.get("BurnedInAnnotation", "")) for header in (source, *references)]
    if "YES" in burned:
        image.BurnedInAnnotation = "YES"
    elif set(burned) == {"NO"}:
        image.BurnedInAnnotation = "NO"
    lossy = [header for header in (source, *references) if compressed_with_loss(header)]
    image.LossyImageCompression = "01" if lossy else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        element = corrected(lossy[0], keyword, series.corrections) if lossy else None
        if element is not None:
            image.add(element)


def _place(image: Dataset, series: DerivedSeries, index: int) -> None:
    image.ImagePositionPatient = decimals(series.result.positions[index])
    image.ImageOrientationPatient = decimals(np.ravel(series.result.orientation))
    image.PixelSpacing = decimals(series.result.spacing)


def _set_pixels(image: Dataset, series: DerivedSeries, index: int, source: Dataset) -> None:
    stored = stored_values(series.result.pixels[index], series.factor)
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = stored.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 0
    image.SmallestImagePixelValue, image.LargestImagePixelValue = int(stored.min()), int(stored.max())
    image.WindowCenter, image.WindowWidth = decimals(window(source, series.factor, series.shown))
    image.PixelData = stored.tobytes()
    image["PixelData"].VR = "OW"


def _source_image(header: Dataset, purpose: CodedConcept) -> Dataset:
    item = _reference(header)
    number = frame_number(header)
    if number is not None:
        item.ReferencedFrameNumber = number
    item.SpatialLocationsPreserved = "NO"
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def _referenced_series(uid: str, headers: Sequence[Dataset]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = uid
    item.ReferencedInstanceSequence = [_reference(h) for h in {h.SOPInstanceUID: h for h in headers}.values()]
    return item


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item
