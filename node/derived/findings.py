"""The findings on a result, in figures and in words: the single source of the SR report and of the HTML report."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from node.config.settings import ReportSettings
from node.derived.series import DerivedSeries
from node.result import Acquired, Quality, Registration

RESEARCH_NOTICE = (
    "For research use only, not for diagnosis. The images were computed by a neural network; detail that the scanner "
    "did not measure may be wrong or missing."
)


ATTRIBUTES_CORRECTED = "W_ATTRIBUTES_CORRECTED"
"""The code of what had to be corrected in defective sources."""


class Grade(Enum):
    """Imaging Series Quality (130550, DCM); the first three values are those of CID 6044."""

    MEETS_STANDARD = "111237", "Usable - Meets the quality control standard"
    BELOW_STANDARD = "111236", "Usable - Does not meet the quality control standard"
    UNUSABLE = "111235", "Unusable - Quality renders image unusable"
    NOT_MEASURED = None, "Not measured"

    def __init__(self, code: str | None, meaning: str) -> None:
        self.code, self.meaning = code, meaning


@dataclass(frozen=True)
class Measure:
    """One figure for the whole series, or one per slice."""

    code: str
    """In our coding scheme 99DIFFMSR."""
    name: str
    unit: str
    """UCUM."""
    words: str
    """What it means, for a physicist."""
    value: float | None = None
    slices: list[float] | None = None
    limit: float | None = None
    """Beyond it, either way, the result is not usable."""

    @property
    def mean(self) -> float:
        return sum(self.slices or ()) / len(self.slices or ())

    @property
    def worst_slice(self) -> int:
        """Index of the value farthest from 0."""
        slices = self.slices or []
        return max(range(len(slices)), key=lambda i: abs(slices[i]))

    @property
    def worst(self) -> float:
        return (self.slices or [])[self.worst_slice]


@dataclass(frozen=True)
class Findings:
    grade: Grade
    reasons: list[str]
    """Why the result is not usable: every threshold that was crossed."""
    measures: list[Measure]
    warnings: list[str]
    """What the series replaces, warnings of matching and inference, and what had to be corrected in defective sources."""
    acquired: Acquired | None = None
    """How the target was acquired, and what of it was undone before the network saw it."""


def findings(series: DerivedSeries, settings: ReportSettings) -> Findings:
    """All findings on a result. Call this after the images are encoded, because encoding finds defects of the sources."""
    result = series.result
    replacement = [] if series.replacement is None else [series.replacement]
    warnings = [
        *replacement,
        *result.warnings,
        *(f"{ATTRIBUTES_CORRECTED}: {text}" for text in dict.fromkeys(series.corrections)),
    ]
    quality = result.quality
    if quality is None:
        return Findings(Grade.NOT_MEASURED, [], [], warnings, result.acquired)
    if not quality.usable:
        grade = Grade.UNUSABLE
    else:
        grade = Grade.BELOW_STANDARD if result.warnings else Grade.MEETS_STANDARD
    return Findings(grade, quality.reasons, list(_measures(quality, settings)), warnings, result.acquired)


def _measures(quality: Quality, settings: ReportSettings) -> Iterator[Measure]:
    yield Measure(
        "INCONSISTENCY", "K-space inconsistency", "1",
        "Each result is taken back to the low resolution that the scanner measured and compared with it in k-space: "
        "norm of the difference over the norm of the measurement, less what removed noise explains. 0 means that everything "
        "measured but noise is kept; a value above 0 means that the network changed a part of it.",
        slices=quality.consistency, limit=settings.max_inconsistency,
    )  # fmt: skip
    yield Measure(
        "INTENSITY_DRIFT", "Intensity drift", "1",
        "Mean intensity of the result over that of the zero-filled target, less 1, and less what removed noise explains, "
        "which makes a slice darker. 0 means that the brightness of a slice is kept; +0.05 that it has become 5 % brighter.",
        slices=quality.intensity_drift, limit=settings.max_intensity_drift,
    )  # fmt: skip
    if quality.seed_spread is not None:
        yield Measure(
            "SEED_SPREAD", "Seed spread", "1",
            "The network starts from noise. Several starts were compared: standard deviation between them, mean over "
            "the pixels, over the slice's maximum. 0 means that chance plays no part in the result.",
            slices=quality.seed_spread, limit=settings.max_seed_spread,
        )  # fmt: skip
    if quality.expected_error is not None:
        yield Measure(
            "EXPECTED_ERROR", "Expected error", "1",
            "The trust map predicts the absolute error of each pixel. Its mean over the tissue of a slice, over the mean intensity of "
            "that tissue. Where the reference does not fit, or the images are not of a kind that the network knows, it is high.",
            slices=quality.expected_error, limit=settings.max_expected_error,
        )  # fmt: skip
    if quality.unsure is not None:
        yield Measure(
            "UNSURE_TISSUE", "Unsure tissue", "1",
            "Share of the tissue of a slice whose expected error exceeds a quarter of its own intensity.",
            slices=quality.unsure,
        )  # fmt: skip
    registration = quality.registration
    if registration is not None:
        yield from _moved(registration, settings)


def _moved(registration: Registration, settings: ReportSettings) -> Iterator[Measure]:
    along_row, along_column = registration.shift_mm
    yield Measure(
        "DISPLACEMENT", "Displacement of the reference", "mm",
        "Displacement of the reference from the target that remains after the scanner's coordinates, as when the patient "
        "moved between the two series: the largest displacement of any point within the head. " + (
            "The reference was moved back onto the target before it was used." if registration.corrected
            else "The reference was used where it is." if registration.trusted
            else "This estimate is unreliable, so the reference was not moved."
        ),
        value=registration.displacement_mm,
        limit=settings.max_displacement_mm if registration.trusted and not registration.corrected else None,
    )  # fmt: skip
    if registration.spread_mm is not None:
        yield Measure(
            "DISPLACEMENT_SPREAD", "Uncertainty of the displacement", "mm",
            "Difference between the displacements that the even and the odd slices give when they are registered alone. "
            "The smaller it is, the more reliable is the figure above.",
            value=registration.spread_mm,
        )  # fmt: skip
    yield Measure(
        "SHIFT_ROW", "Shift along a row", "mm", "The part of the displacement along a row of the target.",
        value=along_row,
    )  # fmt: skip
    yield Measure(
        "SHIFT_COLUMN", "Shift along a column", "mm", "The part along a column.", value=along_column
    )  # fmt: skip
    yield Measure(
        "ROTATION", "Rotation", "deg", "In the plane, from the direction along a row towards that along a column.",
        value=registration.rotation_deg,
    )  # fmt: skip
