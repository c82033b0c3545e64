"""A stack of slices as one array with its geometry, read from DICOM files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

from node.dicom.acquisition import AcquisitionHeader, acquisition_header, agreed
from node.dicom.attributes import Attributes
from node.dicom.frames import frame_number, images_of
from node.dicom.geometry import Orientation, is_orientation, normal_of, orthonormal
from node.dicom.pixels import stored_frames
from node.dicom.read import Readable
from node.dicom.uid import is_uid
from node.errors import DamagedFileError, NodeError, RefusedError

_LARGEST_VOLUME = 2**29
"""Pixels of a stack; 2 GiB as float32. A compressed file can claim far more than its own size."""

_DECODED_BY_GDCM = frozenset({JPEGLossless, JPEGLosslessSV1, JPEGBaseline8Bit, JPEGExtended12Bit})
"""Transfer syntaxes for which python-gdcm is the only decoder with a permissive licence."""

_UNDERSHOOT = 0.01
"""Scanner interpolation may leave a magnitude slightly negative; more than this share of the maximum is not magnitude."""

_PHILIPS_SCALE_SLOPE = (0x2005, "Philips MR Imaging DD 001", 0x0E)
_PHILIPS_FRAME = (0x2005, "Philips MR Imaging DD 005", 0x0F)


@dataclass(frozen=True)
class Volume:
    """Parallel slices of one stack, in order along their normal.

    pixels: (n, rows, columns) float32, real-world (rescaled) intensity, not negative.
    positions: (n, 3) mm, centre of the first pixel of each slice (ImagePositionPatient).
    orientation: (direction along a row, direction along a column), unit vectors (ImageOrientationPatient, PS3.3
        C.7.6.2.1.1): the centre of pixel (r, c) is position + c * spacing[1] * orientation[0]
        + r * spacing[0] * orientation[1].
    spacing: (between rows, between columns) mm (PixelSpacing).
    slice_thickness: mm.
    """

    pixels: NDArray[np.float32]
    positions: NDArray[np.float64]
    orientation: Orientation
    spacing: tuple[float, float]
    slice_thickness: float
    sop_uids: tuple[str, ...]
    frame_of_reference_uid: str
    frames: tuple[int, ...] | None = None
    """For each slice, its frame number from 1 in a multi-frame instance; None when instances are single-frame."""
    acquisition: AcquisitionHeader = field(default_factory=AcquisitionHeader)
    """What the headers of all slices say alike of how they were acquired."""

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the slices: row direction x column direction."""
        return normal_of(self.orientation)


def read_volume(instances: Sequence[Readable], frames: Sequence[int] | None, max_matrix: int) -> Volume:
    """Read the slices of one stack, in any order, as a Volume sorted along the slice normal.

    `instances` has that of each slice, and `frames` its frame number from 1 when they are Enhanced MR instances (one is
    then named once for each slice, and read once); without `frames`, every image of the instances is a slice. Rows or
    columns beyond `max_matrix` are a damaged header, and refused before memory is taken.
    Any transfer syntax an installed pydicom plugin decodes; modality rescale is applied, MONOCHROME1 inverted, pixel
    padding set to 0. Raises RefusedError with a code E_PIXELS_… when an image cannot be decoded or the images do not
    belong together, DamagedError or MissingError when an instance is lost, StorageError when it cannot be read.
    """
    if not instances:
        raise RefusedError("E_PIXELS_NONE", "the stack has no instances")
    try:
        return _volume(instances, frames, max_matrix)
    except (NodeError, MemoryError):
        raise
    except Exception as error:  # pydicom converts on access, and a garbled element can raise nearly anything
        raise RefusedError(
            "E_PIXELS_UNREADABLE",
            f"the series of {instances[0]} is damaged ({type(error).__name__}); have it sent again",
        ) from None


def _volume(instances: Sequence[Readable], frames: Sequence[int] | None, max_matrix: int) -> Volume:
    wanted: dict[Readable, list[int]] = {}
    for instance, frame in zip(instances, frames or [0] * len(instances), strict=True):
        wanted.setdefault(instance, []).append(frame)
    slices = [s for instance, numbers in wanted.items() for s in _slices(instance, set(numbers) if frames else None)]
    _check_consistent(slices)

    first = slices[0]
    normal = normal_of(first.orientation)
    slices.sort(key=lambda s: float(normal @ s.position))
    _check_apart(slices, [float(normal @ s.position) for s in slices])
    positions = np.array([s.position for s in slices], dtype=np.float64)
    numbers = tuple(number for s in slices if (number := frame_number(s.header)) is not None)
    return Volume(
        pixels=_decode_stack(slices, max_matrix),
        positions=positions,
        orientation=first.orientation,
        spacing=first.spacing,
        slice_thickness=_slice_thickness(slices[0].header, positions),
        sop_uids=tuple(str(s.header.SOPInstanceUID) for s in slices),
        frame_of_reference_uid=str(first.header.get("FrameOfReferenceUID", "")),
        frames=numbers or None,
        acquisition=agreed([acquisition_header(Attributes(s.header)) for s in slices]),
    )


@dataclass(frozen=True)
class _Slice:
    """One image of an instance: its header as a classic one, and its geometry."""

    instance: Dataset
    """The file's own data set, with the pixels of all its frames."""
    header: Dataset
    position: NDArray[np.float64]
    orientation: Orientation
    spacing: tuple[float, float]

    @property
    def name(self) -> str:
        frame = frame_number(self.header)
        return _name(self.header) + ("" if frame is None else f", frame {frame}")


def _slices(readable: Readable, frames: set[int] | None) -> list[_Slice]:
    """The images of an instance that are wanted; None is all of them."""
    instance = _read(readable)
    found = [h for h in images_of(instance) if frames is None or frame_number(h) in frames]
    if frames is not None and len(found) < len(frames):
        raise RefusedError(
            "E_PIXELS_INCONSISTENT", f"{_name(instance)} has only {len(found)} of the {len(frames)} frames wanted"
        )
    return [_Slice(instance, header, *_geometry(header)) for header in found]


def _read(readable: Readable) -> Dataset:
    try:
        return readable.read_instance()
    except DamagedFileError as error:
        raise RefusedError("E_PIXELS_UNREADABLE", str(error)) from None


def _geometry(header: Dataset) -> tuple[NDArray[np.float64], Orientation, tuple[float, float]]:
    """(position, orientation, spacing) of an image; the orientation is made exactly orthonormal."""
    a = Attributes(header)
    position, cosines = a.vector("ImagePositionPatient", 3), a.vector("ImageOrientationPatient", 6)
    spacing = a.vector("PixelSpacing", 2)
    if position is None or cosines is None or spacing is None:
        raise RefusedError("E_PIXELS_NO_GEOMETRY", f"{_name(header)} has no usable position, orientation or spacing")
    if min(spacing) <= 0:
        raise RefusedError("E_PIXELS_NO_GEOMETRY", f"{_name(header)} has a pixel spacing that is not positive")
    if not is_orientation(cosines):
        raise RefusedError(
            "E_PIXELS_NO_GEOMETRY", f"{_name(header)} has an orientation that is not two orthogonal unit vectors"
        )
    return np.array(position, dtype=np.float64), orthonormal(cosines), (spacing[0], spacing[1])


def _check_consistent(slices: Sequence[_Slice]) -> None:
    """Refuse images that are not slices of one stack. Matching has checked it; files may have changed since."""
    first = slices[0]
    for s in slices:
        differing = [k for k in ("Rows", "Columns", "FrameOfReferenceUID") if s.header.get(k) != first.header.get(k)]
        if not np.allclose(s.orientation, first.orientation, atol=1e-3):
            differing.append("ImageOrientationPatient")
        if not np.allclose(s.spacing, first.spacing, rtol=1e-3):
            differing.append("PixelSpacing")
        if differing:
            raise RefusedError("E_PIXELS_INCONSISTENT", f"{s.name} differs from {first.name} in {differing[0]}")


def _check_apart(slices: Sequence[_Slice], depths: Sequence[float]) -> None:
    """Refuse two slices at the same position: one would hide the other."""
    for i, distance in enumerate(np.diff(depths)):
        if distance < 1e-3:  # mm; headers round positions to less than that
            raise RefusedError(
                "E_PIXELS_INCONSISTENT", f"{slices[i + 1].name} is at the same position as {slices[i].name}"
            )


def _decode_stack(slices: Sequence[_Slice], max_matrix: int) -> NDArray[np.float32]:
    """(n, rows, columns) of rescaled values, in the order of the slices; every image is decoded once."""
    rows, columns = _matrix(slices, max_matrix)
    stack = np.empty((len(slices), rows, columns), dtype=np.float32)
    scales = [_philips_scale(s.header) for s in slices]
    by_instance: dict[int, list[int]] = {}
    for i, s in enumerate(slices):
        by_instance.setdefault(id(s.instance), []).append(i)
    for indices in by_instance.values():
        indices.sort(key=lambda i: frame_number(slices[i].header) or 1)
        for i, stored in zip(indices, _stored([slices[i] for i in indices]), strict=True):
            # Displayed values are comparable between Philips slices only after division by this scale; the first slice
            # keeps its own values, so that the unit stays that of the scanner's display.
            stack[i] = _rescaled(slices[i], stored) * (scales[0] / scales[i])
    lowest, highest = float(stack.min()), float(stack.max())
    if lowest < -_UNDERSHOOT * highest:
        raise RefusedError(
            "E_PIXELS_NEGATIVE", f"the series of {slices[0].name} has negative values, so it is not a magnitude image"
        )
    return np.maximum(stack, 0, out=stack)


def _matrix(slices: Sequence[_Slice], max_matrix: int) -> tuple[int, int]:
    """(rows, columns), when the headers describe images that can be decoded."""
    for s in slices:
        header = s.header
        if "PixelData" not in s.instance:
            raise RefusedError("E_PIXELS_NONE", f"{s.name} has no pixel data")
        if frame_number(header) is None and Attributes(header).stated("NumberOfFrames", 1) > 1:
            raise RefusedError("E_PIXELS_MULTIFRAME", f"{s.name} has several frames, but no positions of them")
        if header.get("SamplesPerPixel", 1) != 1 or header.get("PhotometricInterpretation") not in (
            "MONOCHROME1",
            "MONOCHROME2",
        ):
            raise RefusedError("E_PIXELS_COLOUR", f"{s.name} is not a monochrome image")
    size = Attributes(slices[0].header)
    rows, columns = size.count("Rows") or 0, size.count("Columns") or 0
    if not (1 < rows <= max_matrix and 1 < columns <= max_matrix):
        raise RefusedError("E_PIXELS_SIZE", f"{slices[0].name} claims {rows} x {columns} pixels")
    if len(slices) * rows * columns > _LARGEST_VOLUME:
        raise RefusedError(
            "E_PIXELS_SIZE", f"{len(slices)} slices of {rows} x {columns} pixels are more than the node can process"
        )
    return rows, columns


def _stored(slices: Sequence[_Slice]) -> Iterator[NDArray[Any]]:
    """The stored values of slices of one file, in order of their frames."""
    instance = slices[0].instance
    indices = [(frame_number(s.header) or 1) - 1 for s in slices]
    try:
        yield from stored_frames(instance, indices)
    except Exception as error:  # each decoder plugin raises its own kinds
        syntax = instance.file_meta.get("TransferSyntaxUID", "an unnamed transfer syntax")
        if syntax in _DECODED_BY_GDCM and not get_decoder(syntax).is_available:
            remedy = "install the node's extra for it: pip install 'diffmsr-node[gdcm]'"
        elif syntax == JPEGExtended12Bit and instance.get("BitsStored") == 12:
            remedy = "no decoder with a permissive licence reads its 12 bits; have it sent uncompressed"
        else:
            remedy = f"the file is damaged ({type(error).__name__}); have it sent again"
        raise RefusedError(
            "E_PIXELS_UNREADABLE",
            f"the pixels of {_name(instance)}, {getattr(syntax, 'name', syntax)}, cannot be decoded: {remedy}",
        ) from None


def _rescaled(s: _Slice, stored: NDArray[Any]) -> NDArray[np.float64]:
    """(rows, columns) of real-world values."""
    header = s.header
    a = Attributes(header)
    slope, intercept = a.stated("RescaleSlope", 1.0), a.stated("RescaleIntercept", 0.0)
    padding = _padding(header, stored)
    values = stored.astype(np.float64)
    if header.PhotometricInterpretation == "MONOCHROME1":
        signed = header.PixelRepresentation == 1
        values = 2.0 ** (header.BitsStored - signed) - 1 - values
    values = values * slope + intercept
    if not np.isfinite(values).all():
        raise RefusedError("E_PIXELS_UNREADABLE", f"{s.name} has a rescale slope or intercept that is not a number")
    values[padding] = 0
    return values


def _padding(header: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """A mask of the padding, which belongs to no image (PS3.3 C.7.5.1.1.2)."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = header.get("PixelPaddingRangeLimit", value)
    inside: NDArray[np.bool_] = (stored >= min(value, limit)) & (stored <= max(value, limit))
    return inside


def _philips_scale(header: Dataset) -> float:
    """RescaleSlope x scale slope, by which Philips' displayed values exceed its floating-point ones; else 1."""
    try:
        if frame_number(header) is not None:  # Enhanced: in the frame's copy of a classic header
            (header,) = header.private_block(*_PHILIPS_FRAME[:2])[_PHILIPS_FRAME[2]].value
        group, creator, offset = _PHILIPS_SCALE_SLOPE
        scale: Any = header.private_block(group, creator)[offset].value
        return Attributes(header).stated("RescaleSlope", 1.0) * float(scale) or 1.0
    except Exception:  # not Philips, or damaged; pydicom raises nearly anything on access
        return 1.0


def _slice_thickness(header: Dataset, positions: NDArray[np.float64]) -> float:
    """SliceThickness; where it is missing, the distance between slices."""
    thickness = Attributes(header).number("SliceThickness")
    if thickness is not None and thickness > 0:
        return thickness
    return float(np.linalg.norm(positions[-1] - positions[0])) / max(len(positions) - 1, 1) or 1.0


def _name(header: Dataset) -> str:
    """A name for messages. A damaged header may have anything in place of the UID, even patient data."""
    uid = str(header.get("SOPInstanceUID"))
    return f"instance {uid if is_uid(uid) else 'without a proper UID'}"
