"""The derived series as MR Image Storage (PS3.3 A.4): one instance per super-resolved slice."""

from collections.abc import Sequence

import numpy as np
from highdicom import ContentQualificationValues, SOPClass
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from node.derived.copied_attributes import ACQUISITION, CONTRAST, DEIDENTIFICATION, EQUIPMENT, MR, SERIES
from node.derived.corrections import TEXT_LENGTH, complete_laterality, copy_corrected, copy_identification, corrected
from node.derived.identifiers import derived_uid, instance_numbers
from node.derived.series import DerivedSeries
from node.dicom.frames import compressed_with_loss, frame_number
from node.dicom.stored_values import decimals, stored_values, window
from node.identity import MANUFACTURER, MODEL_NAME


def mr_images(series: DerivedSeries) -> list[Dataset]:
    """One instance per slice, in the order of the result."""
    numbers = instance_numbers(series.sources)
    return [DerivedMRImage(series, i, number) for i, number in enumerate(numbers)]


class DerivedMRImage(SOPClass):
    """One super-resolved slice, as a classic MR Image Storage instance that is unmistakably marked as derived."""

    def __init__(self, series: DerivedSeries, index: int, instance_number: int) -> None:
        source, references = series.sources[index], series.references[index]
        super().__init__(
            study_instance_uid=series.header.StudyInstanceUID,
            series_instance_uid=series.uid,
            series_number=series.number,
            sop_instance_uid=derived_uid(series.uid, str(index), source.SOPInstanceUID),
            sop_class_uid=MRImageStorage,
            instance_number=instance_number,
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
        self._copy_acquisition(source, series.corrections)
        self._mark(series)
        self._refer_to(series, source, references)
        self._place(series, index)
        self._set_pixels(series, index, source)

    def _copy_series(self, series: DerivedSeries) -> None:
        copy_corrected(self, series.header, (*DEIDENTIFICATION, *SERIES), series.corrections)
        complete_laterality(self)
        if "FrameOfReferenceUID" not in self:
            self.FrameOfReferenceUID = derived_uid(series.header.get("SeriesInstanceUID", ""), "frame of reference")
        self.SeriesDescription = series.titled(instead="MR")

    def _copy_acquisition(self, source: Dataset, corrections: list[str]) -> None:
        copy_corrected(self, source, (*ACQUISITION, *CONTRAST, *MR), corrections)
        if "PixelAspectRatio" in source and "PixelSpacing" in source:
            corrections.append("PixelAspectRatio left out: not allowed beside PixelSpacing")
        if "ImageLaterality" in self and "Laterality" in self:
            del self.Laterality
            corrections.append("Laterality left out: not allowed beside ImageLaterality")
        if any(keyword in self for keyword in CONTRAST) and "ContrastBolusAgent" not in self:
            self.ContrastBolusAgent = None
        # Type 2C: only allowed with inversion recovery, although some scanners always write it.
        if "IR" in np.atleast_1d(self.ScanningSequence):
            self.setdefault("InversionTime", None)
        elif "InversionTime" in self:
            del self.InversionTime
            corrections.append("InversionTime left out: the scanning sequence is not inversion recovery")

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

    def _refer_to(self, series: DerivedSeries, source: Dataset, references: Sequence[Dataset]) -> None:
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
        lossy = [header for header in (source, *references) if compressed_with_loss(header)]
        self.LossyImageCompression = "01" if lossy else "00"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            element = corrected(lossy[0], keyword, series.corrections) if lossy else None
            if element is not None:
                self.add(element)

    def _place(self, series: DerivedSeries, index: int) -> None:
        self.ImagePositionPatient = decimals(series.result.positions[index])
        self.ImageOrientationPatient = decimals(np.ravel(series.result.orientation))
        self.PixelSpacing = decimals(series.result.spacing)

    def _set_pixels(self, series: DerivedSeries, index: int, source: Dataset) -> None:
        stored = stored_values(series.result.pixels[index], series.factor)
        self.SamplesPerPixel = 1
        self.PhotometricInterpretation = "MONOCHROME2"
        self.Rows, self.Columns = stored.shape
        self.BitsAllocated, self.BitsStored, self.HighBit = 16, 16, 15
        self.PixelRepresentation = 0
        self.SmallestImagePixelValue, self.LargestImagePixelValue = int(stored.min()), int(stored.max())
        self.WindowCenter, self.WindowWidth = decimals(window(source, series.factor, series.shown))
        self.PixelData = stored.tobytes()
        self["PixelData"].VR = "OW"


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
