"""The file that the viewer shows: the zero-filled target, the result, the reference and, where there is one, the trust map,
slice by slice on one grid.

    8 bytes   DMSRLAY2
    4 bytes   length of the description, unsigned, little-endian
    32 bytes  SHA-256 of the description
    JSON      the description, `LayersInfo`, with the SHA-256 of each slice
    frames    uint16, little-endian: slice after slice, each slice with its layers in the order of the description

Everything that the viewer needs of one slice is one contiguous range, so a request reads it and computes nothing but its digest.
Earlier versions wrote DMSRLAY1, without digests of the description and of each slice.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

_MAGIC, _MAGIC_BEFORE = b"DMSRLAY2", b"DMSRLAY1"
_PREFIX = struct.Struct("<8sI")
_DIGEST_BYTES = 32
_LONGEST_DESCRIPTION = 2**24
"""Bytes. A longer description means a damaged file, not a series with very many slices."""

LayerName = Literal["zero_filled", "super_resolved", "reference", "expected_error"]
Vector = tuple[float, float, float]


class LayerInfo(BaseModel):
    """One layer: what its stored values mean, and the window to begin with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: LayerName
    slope: float
    """Intensity in the unit of the source series, over stored value."""
    center: float
    width: float
    """Window (PS3.3 C.11.2), in intensities."""


class LayersInfo(BaseModel):
    """What all slices share, and where they are in the patient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    slices: int
    rows: int
    columns: int
    spacing: tuple[float, float]
    """(between rows, between columns) mm (PixelSpacing)."""
    orientation: tuple[Vector, Vector]
    """Direction along a row, direction along a column (ImageOrientationPatient)."""
    positions: tuple[Vector, ...]
    """mm, centre of the first pixel of each slice (ImagePositionPatient)."""
    scale: int
    """How many times finer than acquired, in the plane."""
    layers: tuple[LayerInfo, ...]
    sha256: str
    """Of the frames."""
    slices_sha256: tuple[str, ...] = ()
    """Of the frames of each slice; empty in a file of an earlier version."""

    @property
    def slice_bytes(self) -> int:
        """Length of one slice with all its layers."""
        return len(self.layers) * self.rows * self.columns * 2


@dataclass(frozen=True)
class Layer:
    """A layer to be written. pixels: (n, rows, columns) uint16."""

    info: LayerInfo
    pixels: NDArray[np.uint16]


def encode_layers(
    layers: Sequence[Layer],
    positions: NDArray[np.float64],
    orientation: tuple[Vector, Vector],
    spacing: tuple[float, float],
    scale: int,
) -> bytes:
    """The whole file. The same layers give the same bytes."""
    slices, rows, columns = layers[0].pixels.shape
    stacked = np.stack([layer.pixels for layer in layers], axis=1).astype("<u2", copy=False)
    frames = stacked.tobytes()
    info = LayersInfo(
        slices=slices,
        rows=rows,
        columns=columns,
        spacing=spacing,
        orientation=orientation,
        positions=tuple((float(x), float(y), float(z)) for x, y, z in positions),
        scale=scale,
        layers=tuple(layer.info for layer in layers),
        sha256=hashlib.sha256(frames).hexdigest(),
        slices_sha256=tuple(hashlib.sha256(one).hexdigest() for one in stacked),
    )
    description = info.model_dump_json().encode()
    digest = hashlib.sha256(description).digest()
    return b"".join([_PREFIX.pack(_MAGIC, len(description)), digest, description, frames])


@dataclass(frozen=True)
class LayersFile:
    """An open layers file: its description, and the frames behind it."""

    info: LayersInfo
    _file: BinaryIO
    _frames_at: int

    def read_slice(self, index: int) -> bytes:
        """The frames of one slice, counted from 0: uint16 little-endian, layer after layer.

        Raises IndexError when there is no such slice, ValueError when the file ends before it, or the slice does not match
        its digest.
        """
        if not 0 <= index < self.info.slices:
            raise IndexError(f"slice {index} of {self.info.slices}")
        self._file.seek(self._frames_at + index * self.info.slice_bytes)
        frames = self._file.read(self.info.slice_bytes)
        if len(frames) != self.info.slice_bytes:
            raise ValueError("this layers file is shorter than its description says")
        if self.info.slices_sha256:
            is_whole = hashlib.sha256(frames).hexdigest() == self.info.slices_sha256[index]
        else:
            self._file.seek(self._frames_at)
            is_whole = hashlib.sha256(self._file.read()).hexdigest() == self.info.sha256
        if not is_whole:
            raise ValueError("this layers file does not match its digest")
        return frames


def open_layers(file: BinaryIO) -> LayersFile:
    """Read the description of a layers file; ValueError when the file is not one, or the description does not match its digest."""
    try:
        magic, length = _PREFIX.unpack(file.read(_PREFIX.size))
    except struct.error:
        raise ValueError("this is not a layers file") from None
    if magic not in (_MAGIC, _MAGIC_BEFORE) or length > _LONGEST_DESCRIPTION:
        raise ValueError("this is not a layers file")
    digest = file.read(_DIGEST_BYTES) if magic == _MAGIC else None
    description = file.read(length)
    if digest is not None and hashlib.sha256(description).digest() != digest:
        raise ValueError("the description of this layers file does not match its digest")
    info = LayersInfo.model_validate_json(description)
    if len(info.slices_sha256) not in (0, info.slices):
        raise ValueError("this layers file has no digest for some slices")
    return LayersFile(info, file, _PREFIX.size + len(digest or b"") + length)
