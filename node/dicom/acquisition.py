"""How an image was acquired, as far as its header tells.

Read from the MR Image module (PS3.3 C.8.3.1) and, in Enhanced MR, from the macros MR FOV/Geometry (C.8.13.5.3) and MR
Modifier (C.8.13.5.5) and the attributes of the instance (C.8.13.2), which `frames.py` flattens. A value that is missing,
damaged, zero, impossible or contradicted by another one is unknown. Nothing here raises.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from node.dicom.attributes import Attributes

_Fact = TypeVar("_Fact")

KSpaceFilter = Literal["none", "hamming", "hanning", "other"]

FRACTIONS = (5 / 8, 6 / 8, 7 / 8)
"""Of partial Fourier, as scanners offer it. A header gives a count of lines, from which a fraction is rounded to these."""
ROUNDING = 0.02
SAME_SHARE = 0.03
"""Shares that differ by less count as equal: scanners round lines to their own multiples."""

SIEMENS_PROTOCOL = ("SIEMENS CSA HEADER", 0x0029, 0x20)
"""CSA Series Header Info, which holds the protocol as text."""
SIEMENS_PARTIAL_FOURIER = re.compile(rb"sKSpace\.ucPhasePartialFourier\s{0,9}=\s{0,9}(0x[0-9a-fA-F]{1,4}|\d{1,4})\s")
SIEMENS_FRACTIONS = {0x02: 5 / 8, 0x04: 6 / 8, 0x08: 7 / 8, 0x10: 1.0}
"""Codes of `sKSpace.ucPhasePartialFourier`, as GDCM documents them (CSAHeader.xml, entry MrProtocol). 0x01, which is 4/8,
is left out: nothing can be told of half an acquisition."""

ATTRIBUTES = (
    "AcquisitionMatrix", "InPlanePhaseEncodingDirection", "PercentSampling", "PercentPhaseFieldOfView", "ScanOptions",
    "NumberOfPhaseEncodingSteps", "MRAcquisitionFrequencyEncodingSteps", "MRAcquisitionPhaseEncodingStepsInPlane",
    "PartialFourier", "PartialFourierDirection", "KSpaceFiltering", "CoverageOfKSpace",
)  # fmt: skip
"""What is read of a header here, besides the stored matrix and its pixel spacing; for the conformance statement."""

_FILTERS: dict[str, KSpaceFilter] = {"NONE": "none", "HAMMING": "hamming", "HANNING": "hanning"}


@dataclass(frozen=True)
class AcquisitionHeader:
    """What headers say about an acquisition. Pairs are (along rows, along columns), as in a shape (h, w). None: unknown."""

    matrix: tuple[int | None, int | None] = (None, None)
    """Acquired (rows, columns), never more than stored: fewer where the scanner enlarged the image."""
    partial_fourier: tuple[float | None, float | None] = (None, None)
    """Sampled share of the acquired extent; 1 is all of it."""
    filter: KSpaceFilter | None = None
    """Kind of the filter over k-space; `other`: the header does not give its shape."""
    ellipse: bool | None = None
    """Whether the corners of k-space were left out."""

    @property
    def both(self) -> tuple[int, int] | None:
        """The acquired (rows, columns), when both are known."""
        rows, columns = self.matrix
        return None if rows is None or columns is None else (rows, columns)


@dataclass(frozen=True)
class _Encoding:
    """Encoded samples and stored pixels, by direction of encoding."""

    phase_axis: int
    """0 when phase encoding runs along a column, over the rows; else 1."""
    frequency: float | None
    phase: float | None
    stored_frequency: int
    stored_phase: int


def acquisition_header(a: Attributes) -> AcquisitionHeader:
    """What the header of one image says about its acquisition."""
    encoding = _encoding(a)
    return AcquisitionHeader(
        matrix=(None, None) if encoding is None else _matrix(a, encoding),
        partial_fourier=_partial_fourier(a, encoding),
        filter=_filter(a),
        ellipse={"FULL": False, "ELLIPSOIDAL": True}.get(a.text("CoverageOfKSpace") or ""),
    )


def agreed(headers: Sequence[AcquisitionHeader]) -> AcquisitionHeader:
    """The facts on which all images of one stack agree. A fact on which they differ is unknown."""
    if not headers:
        return AcquisitionHeader()
    rows, columns = zip(*(header.matrix for header in headers), strict=True)
    along_rows, along_columns = zip(*(header.partial_fourier for header in headers), strict=True)
    return AcquisitionHeader(
        matrix=(_common(rows), _common(columns)),
        partial_fourier=(_common(along_rows), _common(along_columns)),
        filter=_common([header.filter for header in headers]),
        ellipse=_common([header.ellipse for header in headers]),
    )


def _common(values: Sequence[_Fact | None]) -> _Fact | None:
    """The value when all are the same."""
    return values[0] if len(set(values)) == 1 else None


def _encoding(a: Attributes) -> _Encoding | None:
    """AcquisitionMatrix (0018,1310) is frequency rows, frequency columns, phase rows, phase columns. GE and Siemens write
    0, f, p, 0 for either direction, so the direction is taken from InPlanePhaseEncodingDirection (0018,1312; ROW: phase
    encoding runs along a row, that is over the columns) where it is present. Enhanced images have the steps instead; in
    the direction of partial Fourier there are fewer steps than the resolution needs, so they do not give it."""
    rows, columns = a.count("Rows"), a.count("Columns")
    matrix = a.vector("AcquisitionMatrix", 4)
    direction = next(iter(a.code("InPlanePhaseEncodingDirection")), None)
    if not rows or not columns or direction not in {"ROW", "COL", "COLUMN", None}:
        return None
    frequency, phase = (
        a.integer("MRAcquisitionFrequencyEncodingSteps"),
        a.integer("MRAcquisitionPhaseEncodingStepsInPlane"),
    )
    if matrix is not None:
        frequency, phase = int(matrix[0] or matrix[1]), int(matrix[2] or matrix[3])
        direction = direction or (None if not phase else "COL" if matrix[2] else "ROW")
    elif a.text("PartialFourier") == "YES":
        along = a.text("PartialFourierDirection")
        frequency = None if along not in {"PHASE", "SLICE_SELECT"} else frequency
        phase = None if along not in {"FREQUENCY", "SLICE_SELECT"} else phase
    if direction is None:
        return None
    axis = 1 if direction == "ROW" else 0
    stored = (rows, columns)
    return _Encoding(
        phase_axis=axis,
        frequency=frequency if frequency is not None and frequency > 0 else None,
        phase=phase if phase is not None and phase > 0 else None,
        stored_frequency=stored[1 - axis],
        stored_phase=stored[axis],
    )


def _matrix(a: Attributes, encoding: _Encoding) -> tuple[int | None, int | None]:
    """Acquired (rows, columns). Oversampled directions count as stored."""
    frequency = None if encoding.frequency is None else min(int(encoding.frequency), encoding.stored_frequency)
    lines = _phase_lines(a, encoding)
    phase = None if lines is None else max(1, min(round(lines), encoding.stored_phase))
    return (phase, frequency) if encoding.phase_axis == 0 else (frequency, phase)


def _phase_lines(a: Attributes, encoding: _Encoding) -> float | None:
    """Acquired phase-encoding lines of the stored field of view.

    PercentSampling (0018,0093) is the share of the lines that was acquired. Without a matrix it is the only source; a
    matrix that does not show it contradicts it. A rectangular field of view (0018,0094) that the scanner padded to the
    stored one makes the count ambiguous, because scanners count the lines of either.
    """
    sampled, lines = _share(a, "PercentSampling"), encoding.phase
    by_partial_fourier = "PFP" in a.code("ScanOptions") or a.text("PartialFourier") == "YES"
    if lines is None:
        if sampled is None or by_partial_fourier or encoding.frequency is not None:
            return None
        return sampled * encoding.stored_phase
    field_of_view = _share(a, "PercentPhaseFieldOfView") or 1.0
    padded = field_of_view < min(1.0, _stored_field_of_view(a, encoding)) - SAME_SHARE
    if padded and lines / field_of_view <= encoding.stored_phase * (1 + SAME_SHARE):
        return None
    if sampled is not None and sampled < 1 - SAME_SHARE and not by_partial_fourier:
        of = encoding.frequency or encoding.stored_phase
        shares = (lines / of, lines / (of * field_of_view), lines / encoding.stored_phase)
        if all(abs(share - sampled) > SAME_SHARE for share in shares):
            return None
    return lines


def _stored_field_of_view(a: Attributes, encoding: _Encoding) -> float:
    """Field of view of the stored image along the phase direction, over that along the frequency direction."""
    spacing = a.vector("PixelSpacing", 2) or (1.0, 1.0)
    along_phase, along_frequency = spacing[encoding.phase_axis], spacing[1 - encoding.phase_axis]
    if min(along_phase, along_frequency) <= 0:
        return encoding.stored_phase / encoding.stored_frequency
    return encoding.stored_phase * along_phase / (encoding.stored_frequency * along_frequency)


def _partial_fourier(a: Attributes, encoding: _Encoding | None) -> tuple[float | None, float | None]:
    """Sampled shares along both axes.

    Enhanced images say whether (0018,9081) and along what (0018,9036); classic ones say PFP (phase) or PFF (frequency) in
    ScanOptions (0018,0022), and nothing where there is none. The share of the phase direction follows from the Siemens
    protocol, from NumberOfPhaseEncodingSteps (0018,0089) or from PercentSampling; no attribute has that of the frequency
    direction.
    """
    said, along = a.text("PartialFourier"), a.text("PartialFourierDirection")
    if said == "NO" or (said == "YES" and along == "SLICE_SELECT"):
        return 1.0, 1.0
    if encoding is None:
        return None, None
    phase, frequency = _siemens_fraction(a), None
    if said == "YES" and along == "FREQUENCY":
        phase = 1.0
    elif phase is None and ("PFP" in a.code("ScanOptions") or (said == "YES" and along == "PHASE")):
        phase = _counted_fraction(a, encoding)
    if said == "YES" and along == "PHASE":
        frequency = 1.0
    return (phase, frequency) if encoding.phase_axis == 0 else (frequency, phase)


def _counted_fraction(a: Attributes, encoding: _Encoding) -> float | None:
    steps, sampled = a.count("NumberOfPhaseEncodingSteps"), _share(a, "PercentSampling")
    shares = [
        steps / encoding.phase if steps is not None and encoding.phase else None,
        # Where the matrix has fewer lines already, PercentSampling is the resolution.
        sampled if encoding.phase is None or encoding.phase >= (encoding.frequency or encoding.stored_phase) else None,
    ]
    for share in shares:
        for fraction in FRACTIONS:
            if share is not None and abs(share - fraction) <= ROUNDING:
                return fraction
    return None


def _siemens_fraction(a: Attributes) -> float | None:
    """The share along the phase direction, from the Siemens protocol; None when it says several things."""
    protocol = a.private_bytes(*SIEMENS_PROTOCOL)
    said = {int(code, 0) for code in SIEMENS_PARTIAL_FOURIER.findall(protocol)} if protocol else set()
    return SIEMENS_FRACTIONS.get(said.pop()) if len(said) == 1 else None


def _filter(a: Attributes) -> KSpaceFilter | None:
    """k-space Filtering (0018,9064), which is NONE without a filter. Of Hamming and Hanning the name tells the shape.

    Private elements about filters give no shape and are not read: GE documents that there was a filter
    (ScanOptions FILTERED_GEMS, Filter Mode (0043,102D)), the Siemens protocol that a raw filter was on.
    """
    said = a.code("KSpaceFiltering")
    if len(said) != 1:
        return None
    return _FILTERS.get(said[0], "other")


def _share(a: Attributes, keyword: str) -> float | None:
    """A percentage as a share, in (0, 1]."""
    percent = a.number(keyword)
    return percent / 100 if percent is not None and 0 < percent <= 100 else None
