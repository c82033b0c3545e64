"""What every stage must read in the same way: one frame of a multi-frame instance, as the header that a classic single-frame
instance would carry, and whether its pixels lost something.

Enhanced and Legacy Converted Enhanced MR (PS3.3 A.36, A.70) keep what differs from frame to frame in functional groups
(C.7.6.16), under names of their own. They are flattened here once, so that no other package needs to know two ways to
write an image. Damaged headers count as far as they can be read: nothing here raises.
"""

import re
from collections.abc import Iterator
from typing import Any

from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000MC,
    EnhancedMRImageStorage,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedMRImageStorage,
)
from pydicom.valuerep import DSfloat

from node.dicom.attributes import Attributes
from node.dicom.text import remembered_text

ENHANCED_SOP_CLASSES = frozenset({EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage})

LOSSY_SYNTAXES = frozenset({
    JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, JPEG2000MC, HTJ2K,
})  # fmt: skip
"""Transfer syntaxes that allow loss. Compression without loss has a syntax of its own in each family."""

_OF_THE_WHOLE = (
    "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence",
    "NumberOfFrames",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
)

_UNASSIGNED = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")

_RENAMED = {
    "ImageType": "FrameType",
    "EchoTime": "EffectiveEchoTime",
    "InversionTime": "InversionTimes",
    "EchoTrainLength": "RFEchoTrainLength",
    "SequenceName": "PulseSequenceName",
    "ImagedNucleus": "ResonantNucleus",
    "ImagingFrequency": "TransmitterFrequency",
    "AcquisitionDateTime": "FrameAcquisitionDateTime",
    "AcquisitionNumber": "FrameAcquisitionNumber",
    "TemporalPositionIdentifier": "TemporalPositionIndex",
    "TriggerTime": "NominalCardiacTriggerDelayTime",
    "ImageLaterality": "FrameLaterality",
}
"""Classic attribute: the Enhanced one of the same meaning, which wins, since it is the frame's own."""

_SPELLED_OUT = {
    "ScanningSequence": (
        ("SE", "EchoPulseSequence", {"SPIN", "BOTH"}),
        ("GR", "EchoPulseSequence", {"GRADIENT", "BOTH"}),
        ("IR", "InversionRecovery", {"YES"}),
        ("EP", "EchoPlanarPulseSequence", {"YES"}),
    ),
    "SequenceVariant": (
        ("SK", "SegmentedKSpaceTraversal", {"PARTIAL"}),
        ("MTC", "MagnetizationTransfer", {"ON_RESONANCE", "OFF_RESONANCE", "BOTH"}),
        ("SS", "SteadyStatePulseSequence", {"FREE_PRECESSION", "TRANSVERSE", "LONGITUDINAL"}),
        ("TRSS", "SteadyStatePulseSequence", {"TIME_REVERSED"}),
        ("SP", "Spoiling", {"RF", "GRADIENT", "RF_AND_GRADIENT"}),
        ("OSP", "OversamplingPhase", {"2D", "3D", "2D_3D"}),
    ),
    "ScanOptions": (("FS", "SpectrallySelectedSuppression", {"FAT", "FAT_AND_WATER"}),),
    "AngioFlag": (("Y", "TimeOfFlightContrast", {"YES"}), ("Y", "PhaseContrast", {"YES"})),
}
"""Classic attribute: its defined terms, with the Enhanced attribute and the values that mean the same."""

_DATE_TIME = re.compile(r"(\d{8})(\d{6}(?:\.\d{1,6})?)")


class FrameHeader(Dataset):
    """A classic view of one frame. Its UIDs are those of the instance; `frame_number` counts from 1."""

    frame_number: int


def frame_number(header: Dataset) -> int | None:
    """Which frame of its instance a header describes; None when it describes a single-frame instance."""
    return header.frame_number if isinstance(header, FrameHeader) else None


def compressed_with_loss(header: Dataset) -> bool:
    """Whether the pixels were ever compressed with loss, by what the header says or by how it is encoded now."""
    syntax = Attributes(getattr(header, "file_meta", Dataset())).text("TransferSyntaxUID")
    return Attributes(header).text("LossyImageCompression") == "01" or syntax in LOSSY_SYNTAXES


def images_of(header: Dataset) -> Iterator[Dataset]:
    """The header of each image in an instance: of each frame of an Enhanced MR instance with functional groups, else
    the one given."""
    enhanced = Attributes(header).text("SOPClassUID") in ENHANCED_SOP_CLASSES
    frames = _items(header, "PerFrameFunctionalGroupsSequence") if enhanced else []
    if not frames:
        yield header
        return
    of_all = {tag: element for tag, element in header.items() if keyword_for_tag(tag) not in _OF_THE_WHOLE}
    shared = next(iter(_items(header, "SharedFunctionalGroupsSequence")), Dataset())
    # What a conversion could not place comes last: it has the numbers of the series that was converted.
    converted, of_all = _unassigned(shared), of_all | _flattened(shared)
    for number, group in enumerate(frames, start=1):
        frame = FrameHeader(converted | _unassigned(group) | of_all | _flattened(group))
        frame.frame_number = number
        implicit_vr, little_endian = header.original_encoding
        frame.set_original_encoding(implicit_vr, little_endian, header.original_character_set)
        frame.as_sent = remembered_text(header)
        if hasattr(header, "file_meta"):
            frame.file_meta = header.file_meta
        _say_it_classically(frame)
        yield frame


def _flattened(group: Dataset) -> dict[BaseTag, Any]:
    """The attributes in the first item of each functional group macro; private macros as they stand, because Philips
    keeps a whole classic header in one, which would hide the standard attributes."""
    found: dict[BaseTag, Any] = {}
    for tag, element in group.items():
        if tag.is_private:
            found[tag] = element
        elif keyword_for_tag(tag) not in _UNASSIGNED:
            found |= _first_item(group, keyword_for_tag(tag))
    return found


def _unassigned(group: Dataset) -> dict[BaseTag, Any]:
    return {tag: element for keyword in _UNASSIGNED for tag, element in _first_item(group, keyword).items()}


def _first_item(group: Dataset, keyword: str) -> dict[BaseTag, Any]:
    return {tag: element for item in _items(group, keyword)[:1] for tag, element in item.items()}


def _say_it_classically(frame: FrameHeader) -> None:
    a = Attributes(frame)
    for keyword, enhanced in _RENAMED.items():
        values = a.values(enhanced)
        if values:
            _set(frame, keyword, values if keyword == "ImageType" else values[0])
    for keyword, terms in _SPELLED_OUT.items():
        said = [term for term, enhanced, values in terms if a.text(enhanced) in values]
        if said and not a.values(keyword):
            _set(frame, keyword, list(dict.fromkeys(said)))
    moment = _DATE_TIME.match(a.text("AcquisitionDateTime") or "")
    if moment:
        _set(frame, "AcquisitionDate", moment[1])
        _set(frame, "AcquisitionTime", moment[2])
    _set_acquisition_matrix(frame)
    _set_contrast_agent(frame)


def _set_acquisition_matrix(frame: FrameHeader) -> None:
    """AcquisitionMatrix (0018,1310), which is frequency rows, frequency columns, phase rows, phase columns, from the
    encoding steps. InPlanePhaseEncodingDirection gives the axis of phase encoding: ROW is over the columns. With
    partial Fourier in that direction there are fewer steps than the resolution would need, so they do not give it."""
    a = Attributes(frame)
    direction = a.text("InPlanePhaseEncodingDirection")
    frequency = a.integer("MRAcquisitionFrequencyEncodingSteps")
    phase = a.integer("MRAcquisitionPhaseEncodingStepsInPlane")
    if direction == "COLUMN":
        _set(frame, "InPlanePhaseEncodingDirection", "COL")
    partial = a.text("PartialFourier") == "YES" and a.text("PartialFourierDirection") != "SLICE_SELECT"
    if frequency is not None and phase is not None and direction in {"ROW", "COLUMN"} and not partial:
        matrix = [frequency, 0, 0, phase] if direction == "ROW" else [0, frequency, phase, 0]
        _set(frame, "AcquisitionMatrix", matrix)


def _set_contrast_agent(frame: FrameHeader) -> None:
    """ContrastBolusAgent (0018,0010) of frames that were acquired with one; those before the injection had none."""
    a = Attributes(frame)
    agents = a.items("ContrastBolusAgentSequence")
    if not agents:
        return
    if a.text("ContrastBolusAgentAdministered") == "NO":
        del frame.ContrastBolusAgentSequence
    elif not a.values("ContrastBolusAgent"):
        _set(frame, "ContrastBolusAgent", agents[0].text("CodeMeaning") or "YES")


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return [item.dataset for item in Attributes(dataset).items(keyword)]


def _set(frame: FrameHeader, keyword: str, value: Any) -> None:
    """Write a value with the VR of the classic attribute, unless that VR does not allow it."""
    vr = dictionary_VR(keyword)
    try:
        value = DSfloat(float(value), auto_format=True) if vr == "DS" else value
        element = DataElement(tag_for_keyword(keyword) or 0, vr, value, validation_mode=IGNORE)
    except Exception:  # pydicom converts on writing too, and a garbled value can raise nearly anything
        return
    frame[element.tag] = element
