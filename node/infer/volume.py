"""A stack of slices as one array with its geometry, read from DICOM files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

from node.errors import RefusedError, StorageError

Vector = tuple[float, float, float]

_LARGEST_MATRIX = 4096
"""Rows or columns beyond this are a damaged header, not a magnetic resonance image; refused before memory is taken."""

_DECODED_BY_GDCM = frozenset({JPEGLossless, JPEGLosslessSV1, JPEGBaseline8Bit, JPEGExtended12Bit})
"""Transfer syntaxes for which python-gdcm is the only decoder with a permissive licence."""

_UNDERSHOOT = 0.01
"""Scanner interpolation may leave a magnitude slightly negative; more than this share of the maximum is not magnitude."""

_PHILIPS_SCALE_SLOPE = (0x2005, "Philips MR Imaging DD 001", 0x0E)


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
    orientation: tuple[Vector, Vector]
    spacing: tuple[float, float]
    slice_thickness: float
    sop_uids: tuple[str, ...]
    frame_of_reference_uid: str

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the slices: row direction x column direction."""
        return np.cross(*self.orientation)


def read_volume(paths: Sequence[Path]) -> Volume:
    """Read single-frame instances of one stack, in any order, as a Volume sorted along the slice normal.

    Any transfer syntax an installed pydicom plugin decodes; modality rescale is applied, MONOCHROME1 inverted, pixel
    padding set to 0. Raises RefusedError with a code E_PIXELS_… when an instance cannot be decoded or the instances do
    not belong together, StorageError when a file cannot be read.
    """
    if not paths:
        raise RefusedError("E_PIXELS_NONE", "the stack has no instances")
    headers = [_read_header(path) for path in paths]
    geometries = [_geometry(header) for header in headers]
    _check_consistent(headers, geometries)

    _, first_orientation, spacing = geometries[0]
    normal = np.cross(*first_orientation)
    order = sorted(range(len(headers)), key=lambda i: float(np.dot(normal, geometries[i][0])))
    headers = [headers[i] for i in order]
    _check_apart(headers, [float(np.dot(normal, geometries[i][0])) for i in order])
    positions = np.array([geometries[i][0] for i in order], dtype=np.float64)
    return Volume(
        pixels=_decode_stack(headers),
        positions=positions,
        orientation=first_orientation,
        spacing=spacing,
        slice_thickness=_slice_thickness(headers[0], positions),
        sop_uids=tuple(str(header.SOPInstanceUID) for header in headers),
        frame_of_reference_uid=str(headers[0].get("FrameOfReferenceUID", "")),
    )


def _read_header(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path)
    except FileNotFoundError:
        raise StorageError(f"{path} is gone from the archive") from None
    except InvalidDicomError:
        raise RefusedError("E_PIXELS_UNREADABLE", f"{path} is not a DICOM Part 10 file") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # a damaged file can fail anywhere in the parser
        raise RefusedError("E_PIXELS_UNREADABLE", f"{path} is damaged ({type(error).__name__})") from None


def _geometry(header: Dataset) -> tuple[NDArray[np.float64], tuple[Vector, Vector], tuple[float, float]]:
    """(position, orientation, spacing) of an instance; the orientation is made exactly orthonormal."""
    try:
        position = np.array([float(v) for v in header.ImagePositionPatient], dtype=np.float64)
        cosines = np.array([float(v) for v in header.ImageOrientationPatient], dtype=np.float64)
        between_rows, between_columns = (float(v) for v in header.PixelSpacing)
    except Exception:
        raise RefusedError(
            "E_PIXELS_NO_GEOMETRY", f"{_name(header)} has no usable position, orientation or spacing"
        ) from None
    if position.shape != (3,) or cosines.shape != (6,) or not np.isfinite([*position, *cosines]).all():
        raise RefusedError("E_PIXELS_NO_GEOMETRY", f"{_name(header)} has no usable position, orientation or spacing")
    if not (0 < between_rows < math.inf and 0 < between_columns < math.inf):
        raise RefusedError("E_PIXELS_NO_GEOMETRY", f"{_name(header)} has a pixel spacing that is not positive")
    row, column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    # Headers round the cosines: 1 % is beyond any rounding, and means they are not direction cosines.
    if abs(np.dot(row, column)) > 0.01 or any(abs(length - 1) > 0.01 for length in lengths):
        raise RefusedError(
            "E_PIXELS_NO_GEOMETRY", f"{_name(header)} has an orientation that is not two orthogonal unit vectors"
        )
    row = row / lengths[0]
    column = column - np.dot(column, row) * row
    column = column / np.linalg.norm(column)
    return position, (_vector(row), _vector(column)), (between_rows, between_columns)


def _check_consistent(
    headers: Sequence[Dataset],
    geometries: Sequence[tuple[NDArray[np.float64], tuple[Vector, Vector], tuple[float, float]]],
) -> None:
    """Refuse instances that are not slices of one stack. Matching has checked it; files may have changed since."""
    first = headers[0]
    for header, (_, orientation, spacing) in zip(headers, geometries, strict=True):
        for keyword in ("Rows", "Columns", "FrameOfReferenceUID"):
            if header.get(keyword) != first.get(keyword):
                raise RefusedError("E_PIXELS_INCONSISTENT", f"{_name(header)} differs from {_name(first)} in {keyword}")
        if not np.allclose(orientation, geometries[0][1], atol=1e-3):
            raise RefusedError(
                "E_PIXELS_INCONSISTENT", f"{_name(header)} differs from {_name(first)} in ImageOrientationPatient"
            )
        if not np.allclose(spacing, geometries[0][2], rtol=1e-3):
            raise RefusedError("E_PIXELS_INCONSISTENT", f"{_name(header)} differs from {_name(first)} in PixelSpacing")


def _check_apart(headers: Sequence[Dataset], depths: Sequence[float]) -> None:
    """Refuse two slices in one place: one would hide the other, and nothing says which."""
    for i, distance in enumerate(np.diff(depths)):
        if distance < 1e-3:  # mm; headers round positions to less than that
            raise RefusedError(
                "E_PIXELS_INCONSISTENT", f"{_name(headers[i + 1])} lies in the same place as {_name(headers[i])}"
            )


def _decode_stack(headers: Sequence[Dataset]) -> NDArray[np.float32]:
    slices = [_decode(header) for header in headers]
    scales = [_philips_scale(header) for header in headers]
    if len(set(scales)) > 1:
        # Displayed values are comparable between Philips slices only after division by this scale; the first slice
        # keeps its own values, so that the unit stays that of the scanner's display.
        slices = [pixels * (scales[0] / scale) for pixels, scale in zip(slices, scales, strict=True)]
    stack = np.stack(slices).astype(np.float32)
    lowest, highest = float(stack.min()), float(stack.max())
    if lowest < -_UNDERSHOOT * highest:
        raise RefusedError(
            "E_PIXELS_NEGATIVE", f"the series of {_name(headers[0])} has negative values, so is not a magnitude image"
        )
    return np.maximum(stack, 0)


def _decode(header: Dataset) -> NDArray[np.float64]:
    """(rows, columns) of rescaled values."""
    name = _name(header)
    if "PixelData" not in header:
        raise RefusedError("E_PIXELS_NONE", f"{name} has no pixel data")
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise RefusedError(
            "E_PIXELS_MULTIFRAME", f"{name} has several frames; only single-frame MR images are processed"
        )
    if header.get("SamplesPerPixel", 1) != 1 or header.get("PhotometricInterpretation") not in (
        "MONOCHROME1",
        "MONOCHROME2",
    ):
        raise RefusedError("E_PIXELS_COLOUR", f"{name} is not a monochrome image")
    rows, columns = header.get("Rows") or 0, header.get("Columns") or 0
    if not (1 < rows <= _LARGEST_MATRIX and 1 < columns <= _LARGEST_MATRIX):
        raise RefusedError("E_PIXELS_SIZE", f"{name} says it has {rows} x {columns} pixels")
    try:
        stored = header.pixel_array.astype(np.float64)
        slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    except Exception as error:  # each decoder plugin raises its own kinds
        syntax = header.file_meta.get("TransferSyntaxUID", "an unnamed transfer syntax")
        if syntax in _DECODED_BY_GDCM and not get_decoder(syntax).is_available:
            remedy = "install the node's extra for it: pip install 'diffmsr-node[gdcm]'"
        else:
            remedy = f"the file is damaged ({type(error).__name__}); have it sent again"
        raise RefusedError(
            "E_PIXELS_UNREADABLE",
            f"the pixels of {name}, {getattr(syntax, 'name', syntax)}, cannot be decoded: {remedy}",
        ) from None
    padding = _padding(header, stored)
    if header.PhotometricInterpretation == "MONOCHROME1":
        signed = header.PixelRepresentation == 1
        stored = 2.0 ** (header.BitsStored - signed) - 1 - stored
    values: NDArray[np.float64] = stored * slope + intercept
    if not np.isfinite(values).all():
        raise RefusedError("E_PIXELS_UNREADABLE", f"{name} has a rescale slope or intercept that is not a number")
    values[padding] = 0
    return values


def _padding(header: Dataset, stored: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where there is no image (PS3.3 C.7.5.1.1.2)."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = header.get("PixelPaddingRangeLimit", value)
    inside: NDArray[np.bool_] = (stored >= min(value, limit)) & (stored <= max(value, limit))
    return inside


def _philips_scale(header: Dataset) -> float:
    """RescaleSlope x scale slope, by which Philips' displayed values exceed its floating-point ones; else 1."""
    try:
        group, creator, offset = _PHILIPS_SCALE_SLOPE
        scale: Any = header.private_block(group, creator)[offset].value
        return float(header.get("RescaleSlope", 1)) * float(scale) or 1.0
    except (KeyError, TypeError, ValueError):
        return 1.0


def _slice_thickness(header: Dataset, positions: NDArray[np.float64]) -> float:
    """SliceThickness; where it is missing, the distance between slices."""
    try:
        thickness = float(header.SliceThickness)
    except (AttributeError, TypeError, ValueError):
        thickness = 0.0
    if 0 < thickness < math.inf:
        return thickness
    return float(np.linalg.norm(positions[-1] - positions[0])) / max(len(positions) - 1, 1) or 1.0


def _vector(v: NDArray[np.float64]) -> Vector:
    return float(v[0]), float(v[1]), float(v[2])


def _name(header: Dataset) -> str:
    return f"instance {header.get('SOPInstanceUID', 'without UID')}"
