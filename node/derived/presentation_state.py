"""A mark over the derived images that does not change their pixels: a Grayscale Softcopy Presentation State (PS3.3
A.33.1). Viewers display it in a corner of each image, in a graphic layer that can be switched off."""

from collections.abc import Sequence

from highdicom import ContentQualificationValues
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GrayscaleSoftcopyPresentationState,
    TextObject,
)
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from node.derived.corrections import complete_laterality, copy_corrected, copy_identification, undate, unidentified
from node.derived.identifiers import PRESENTATION_STATE, derived_uid
from node.derived.series import DerivedSeries
from node.dicom.stored_values import decimals
from node.identity import MANUFACTURER, MODEL_NAME

MARK = "AI-DERIVED, RESEARCH"

_CORNER = (0.02, 0.02, 0.5, 0.08)
"""Left, top, right and bottom of the text, as fractions of the displayed area."""


def presentation_state(series: DerivedSeries, images: Sequence[Dataset]) -> Dataset:
    """The mark on `images`, as a series of its own in their study. Window and geometry are those of the images."""
    marked = [unidentified(image) for image in images]
    layer = GraphicLayer("AI_RESEARCH", order=1, description="What these images are")
    uid = derived_uid(series.uid, "presentation state")
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=marked,
        series_instance_uid=uid,
        series_number=series.number + PRESENTATION_STATE,
        sop_instance_uid=derived_uid(uid, "instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=series.software_version,
        device_serial_number=None,  # type: ignore[arg-type]  # documented as optional
        content_label="AI_RESEARCH",
        content_description="Marks AI-derived images, for research use only",
        graphic_layers=[layer],
        graphic_annotations=[
            GraphicAnnotation(
                referenced_images=marked,
                graphic_layer=layer,
                text_objects=[TextObject(MARK, AnnotationUnitsValues.DISPLAY, bounding_box=_CORNER)],
            )
        ],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_qualification=ContentQualificationValues.RESEARCH,
    )
    state.PresentationCreationDate, state.PresentationCreationTime = series.moment
    undate(state)
    # highdicom assumes square pixels and tiled images.
    (area,) = state.DisplayedAreaSelectionSequence
    del area.PresentationPixelAspectRatio, area.PixelOriginInterpretation
    area.PresentationPixelSpacing = decimals(series.result.spacing)
    copy_identification(state, series.header, [])
    copy_corrected(state, series.header, ("BodyPartExamined", "Laterality"), [])
    complete_laterality(state)
    state.SeriesDescription = series.titled("mark ")
    return state
