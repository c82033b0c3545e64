"""`[match]`: which series are processed, and every threshold of the matching."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from node.config.base import Positive, Section
from node.config.site_rules import ContrastLabel, SiteRule, contradictions


class StackLimits(Section):
    """What is required of a stack of slices, whatever its role."""

    min_slices: Annotated[int, Field(ge=1)] = 3
    max_matrix: Annotated[int, Field(ge=1)] = 4096
    duplicate_mm: Positive = 0.01
    gap_factor: Annotated[float, Field(gt=1)] = 1.5
    max_step_deviation: Positive = 0.05
    max_drift_mm: Positive = 0.5
    localizer_angle_deg: Annotated[float, Field(gt=0, lt=90)] = 30


class ContrastRules(Section):
    """Limits between contrasts: echo, repetition and inversion times in milliseconds."""

    flair_min_ti_ms: Positive = 1500
    flair_min_te_ms: Positive = 70
    stir_min_ti_ms: Positive = 80
    stir_max_ti_ms: Positive = 300
    inversion_t1_max_te_ms: Positive = 40
    inversion_t1_max_ti_ms: Positive = 1400
    gradient_t1_max_te_ms: Positive = 10
    gradient_t1_max_tr_ms: Positive = 800
    gradient_t1_min_flip_ratio: Positive = 0.8
    long_min_tr_ms: Positive = 1800
    t2_min_te_ms: Positive = 70
    single_shot_min_part: Annotated[float, Field(gt=0, le=1)] = 0.5
    pd_max_te_ms: Positive = 40
    t1_max_tr_ms: Positive = 1200
    t1_max_te_ms: Positive = 35
    fat_suppression_options: list[str] = ["FS", "SFS", "FAT_SAT", "FATSAT", "FAT SAT", "WE", "SPIR", "SPAIR"]


class TargetLimits(Section):
    """What is required of a stack to be super-resolved."""

    interpolated: Literal["crop", "refuse"] = "crop"
    max_interpolation: Annotated[float, Field(ge=1)] = 1.2
    min_matrix: Annotated[int, Field(ge=1)] = 16
    min_output_spacing_mm: Positive = 0.1


class PairingLimits(Section):
    """How well a reference must fit its target."""

    max_angle_deg: Annotated[float, Field(gt=0, lt=90)] = 1
    max_voxel_ratio: Annotated[float, Field(ge=1)] = 2
    max_plane_distance_mm: Positive = 1
    max_spacing_ratio: Positive = 2
    warn_spacing_ratio: Positive = 1.25
    min_coverage: Annotated[float, Field(gt=0, le=1)] = 0.95
    min_volume_coverage: Annotated[float, Field(gt=0, le=1)] = 0.5
    contrast_agent: Literal["avoid", "prefer", "ignore"] = "avoid"

    @model_validator(mode="after")
    def _warn_before_refusing(self) -> Self:
        if self.warn_spacing_ratio > self.max_spacing_ratio:
            raise ValueError("warn_spacing_ratio must not be above max_spacing_ratio")
        return self


class ScoreWeights(Section):
    """The points of a reference that could not fit better, by what is compared."""

    contrast: Annotated[float, Field(ge=0)] = 30
    contrast_agent: Annotated[float, Field(ge=0)] = 25
    spacing: Annotated[float, Field(ge=0)] = 20
    distortion: Annotated[float, Field(ge=0)] = 10
    coverage: Annotated[float, Field(ge=0)] = 10
    planes: Annotated[float, Field(ge=0)] = 5
    measured: Annotated[float, Field(ge=0)] = 10


class MatchSettings(Section):
    targets: Annotated[list[ContrastLabel], Field(min_length=1)] = ["T2", "T2-FLAIR"]
    references: Annotated[list[ContrastLabel], Field(min_length=1)] = ["T1"]
    description_vetoes: list[str] = [
        "localizer", "localiser", "localizers", "scout", "survey", "pilot", "calibration", "phase", "dwi", "diffusion",
        "adc", "dti", "mip", "map", "mapping", "fieldmap", "bold", "fmri", "perfusion", "asl", "swi", "tof", "mra", "mrv",
        "angio", "psir", "inv2", "mtw", "ai sr",
    ]  # fmt: skip
    lossy: Literal["refuse", "accept"] = "refuse"
    keep_delivered: bool = True
    deep_learning: Literal["warn", "refuse"] = "warn"
    stack: StackLimits = StackLimits()
    contrast: ContrastRules = ContrastRules()
    target: TargetLimits = TargetLimits()
    pairing: PairingLimits = PairingLimits()
    score: ScoreWeights = ScoreWeights()
    rules: list[SiteRule] = []

    @model_validator(mode="after")
    def _rules_agree(self) -> Self:
        mistakes = list(contradictions(self.rules))
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @model_validator(mode="after")
    def _one_part_each(self) -> Self:
        both = sorted(set(self.targets) & set(self.references))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be both target and reference")
        return self

    def veto(self, series_description: str | None) -> str | None:
        """The first of the description vetoes that the series description contains as whole words."""
        words = _words(series_description or "")
        return next((veto for veto in self.description_vetoes if _words(veto) in words), None)


def _words(text: str) -> str:
    return " ".join(["", *re.findall(r"[^\W_]+", text.lower()), ""])
