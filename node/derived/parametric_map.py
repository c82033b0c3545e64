"""The trust map as Parametric Map Storage (PS3.3 A.75): the expected absolute error of each pixel, one frame per slice, on the
grid of the derived images."""

from collections.abc import Sequence

import numpy as np
from highdicom import (
    ContentQualificationValues,
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
    VOILUTTransformation,
)
from highdicom.pm import DerivedPixelContrastValues, ParametricMap, RealWorldValueMapping
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from node.derived.corrections import complete_laterality, copy_corrected, copy_identification, undate, unidentified
from node.derived.findings import RESEARCH_NOTICE
from node.derived.identifiers import TRUST_MAP, derived_uid
from node.derived.report import SCHEME
from node.derived.series import DerivedSeries
from node.dicom.attributes import Attributes
from node.dicom.stored_values import STORED_MAX, intensity_factor, shown_range, stored_values
from node.identity import MANUFACTURER, MODEL_NAME

QUANTITY = CodedConcept("EXPECTED_ERROR", SCHEME, "Expected absolute error")
ARBITRARY = CodedConcept("[arb'U]", "UCUM", "arbitrary unit")
"""The intensities of MR images have no other unit."""


def parametric_map(series: DerivedSeries, images: Sequence[Dataset], expected: NDArray[np.floating]) -> Dataset:
    """The map (n, rows, columns) that goes with `images`, as a series of its own in their study. Stored values times the slope
    of the real world value mapping are in the unit of the target's intensities."""
    uid = derived_uid(series.uid, "trust map")
    expected = expected.astype(np.float32)
    factor = intensity_factor(expected)
    low, high = (value * factor for value in shown_range(expected))
    document: Dataset = ParametricMap(
        source_images=[unidentified(image) for image in images],
        pixel_array=np.stack([stored_values(one, factor) for one in expected]),
        series_instance_uid=uid,
        series_number=series.number + TRUST_MAP,
        sop_instance_uid=derived_uid(uid, "instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=series.software_version,
        device_serial_number=derived_uid("device", series.software_version),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            RealWorldValueMapping(
                lut_label="EXPECTED_ERROR",
                lut_explanation="Expected absolute error of the super-resolved image",
                unit=ARBITRARY,
                value_range=(0, STORED_MAX),
                slope=1 / factor,
                intercept=0.0,
                quantity_definition=QUANTITY,
            )
        ],
        voi_lut_transformations=[VOILUTTransformation((low + high) / 2, max(high - low, 1.0))],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_label="AI_RESEARCH",
        content_description="Expected error of AI super-resolution, research use only",
        content_qualification=ContentQualificationValues.RESEARCH,
        derived_pixel_contrast=DerivedPixelContrastValues.QUANTITY,
        pixel_measures=PixelMeasuresSequence(series.result.spacing, _thickness(series)),
        plane_orientation=PlaneOrientationSequence(
            "PATIENT", [cosine for axis in series.result.orientation for cosine in axis]
        ),
        plane_positions=[PlanePositionSequence("PATIENT", position) for position in series.result.positions],
        contributing_equipment=series.equipment,
    )
    document.ContentDate, document.ContentTime = series.moment
    undate(document)
    organization = derived_uid(uid, "dimension organization")
    for item in (*document.get("DimensionOrganizationSequence", ()), *document.get("DimensionIndexSequence", ())):
        item.DimensionOrganizationUID = organization
    copy_identification(document, series.header, [])
    copy_corrected(document, series.header, ("BodyPartExamined", "Laterality"), [])
    complete_laterality(document)
    document.SeriesDescription = series.titled("expected error ")
    document.ImageComments = RESEARCH_NOTICE
    if series.settings.synthetic_data:
        document.SyntheticData = "YES"
    return document


def _thickness(series: DerivedSeries) -> float:
    """SliceThickness of the target, in mm; where it has none, the distance between slices."""
    thickness = Attributes(series.header).number("SliceThickness") or 0.0
    positions = series.result.positions
    apart = float(np.linalg.norm(positions[-1] - positions[0])) / max(len(positions) - 1, 1)
    return thickness if thickness > 0 else apart or 1.0
