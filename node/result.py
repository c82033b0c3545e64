"""What the infer stage makes: a super-resolved stack, its quality, the registration of its reference, and the acquisition of
its target."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Registration:
    """The in-plane motion from the target to the reference, the same for the whole stack, that remains after the scanner's
    coordinates. What the target shows at p, relative to the centre of its field of view, the reference shows at
    rotation(p) + shift."""

    shift_mm: tuple[float, float]
    """Along a row, along a column."""
    rotation_deg: float
    """From the direction along a row towards that along a column."""
    trusted: bool
    """Whether the estimate is reliable: the images had something to compare, and even and odd slices agree."""
    corrected: bool
    """Whether the reference was moved accordingly."""
    displacement_mm: float
    """The largest displacement by the motion of any point within the head."""
    spread_mm: float | None
    """The largest distance, within the head, between the motions of even and of odd slices alone; None for a stack too
    small to be halved."""


@dataclass(frozen=True)
class Quality:
    """What the infer stage measured of a result, and its grade by the thresholds of the configuration."""

    consistency: list[float]
    """For each slice: norm of the difference between the measured low-resolution k-space and the result's centre of
    k-space, over the norm of the former, beyond what removed noise explains."""
    intensity_drift: list[float]
    """For each slice: mean intensity of the result over that of the zero-filled target, minus 1, beyond what removed noise
    explains."""
    registration: Registration | None
    """None when it was not requested."""
    seed_spread: list[float] | None
    """For each slice: mean over pixels of the standard deviation over an ensemble of seeds, over the slice's maximum;
    None without an ensemble."""
    usable: bool
    reasons: list[str]
    """A sentence for every threshold that was crossed; empty when usable."""
    expected_error: list[float] | None = None
    """For each slice: mean expected absolute error of the tissue over its mean intensity; None without a trust map."""
    unsure: list[float] | None = None
    """For each slice: share of the tissue whose expected error exceeds a quarter of its own intensity; likewise."""

    @property
    def doubts(self) -> str | None:
        """Why the result was graded not usable, as one sentence for people; None when it is usable."""
        return None if self.usable else f"graded not usable: {' '.join(self.reasons)}"


@dataclass(frozen=True)
class AcquisitionFact:
    """One fact of how a target was acquired, in words for people."""

    name: str
    value: str
    source: Literal["header", "spectrum", "both", "unknown"]
    """What tells it: the header, the spectrum of the images, both alike, or neither."""
    confidence: float | None
    """Probability of what the spectrum shows, from 0 to 1; None when the spectrum was not asked."""


@dataclass(frozen=True)
class Acquired:
    """How a target was acquired, as far as header and images tell, and what of it was undone."""

    facts: list[AcquisitionFact]
    undone: list[str]
    """A phrase for every step that was taken before the network saw the images."""

    @property
    def summary(self) -> str | None:
        """What was undone, as one phrase for people; None when nothing was."""
        return f"undone first: {', '.join(self.undone)}" if self.undone else None


@dataclass(frozen=True)
class Result:
    """A super-resolved stack, as the infer stage leaves it and the deliver stage finds it.

    pixels: (n, rows, columns) float32, in the target's stored-value unit, slices in the order of `source_uids`.
    expected_error: the trust map, the expected absolute error of each pixel, in the shape and unit of the pixels, of half precision; None without one.
    positions: (n, 3) mm, centre of the first pixel of each slice (ImagePositionPatient).
    orientation: (row cosine, column cosine), each (x, y, z) (ImageOrientationPatient).
    spacing: (between rows, between columns) mm (PixelSpacing).
    """

    pixels: "NDArray[np.float32]"
    positions: "NDArray[np.float64]"
    orientation: tuple[tuple[float, float, float], tuple[float, float, float]]
    spacing: tuple[float, float]
    source_uids: list[str]
    reference_uids: list[list[str]]  # for each slice, the reference instances that contributed to it
    model_name: str
    model_version: str
    weights_sha256: str
    scale: int
    parameters: dict[str, str]  # everything else that changes pixels
    warnings: list[str]
    source_frames: list[int] | None = None  # of `source_uids`, frame numbers from 1, when the target is multi-frame
    reference_frames: list[list[int]] | None = None  # of `reference_uids`, likewise
    quality: Quality | None = None
    acquired: Acquired | None = None  # None of a result of a version before that was recorded
    expected_error: "NDArray[np.floating] | None" = None
