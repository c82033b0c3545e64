"""The configuration of a training run."""

import math
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from diffmsr.acquisition.draw import Mix
from diffmsr.data import DATASETS, SCALE, Augmentation
from diffmsr.losses import DC_WEIGHT
from diffmsr.models import ModelConfig, Objective, UnknownPresetError, preset_named

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid")


class TrainingError(ValueError):
    """A training configuration or a checkpoint is wrong, or training cannot continue."""


@dataclass(frozen=True, config=STRICT)
class Stage:
    """One of the two training stages."""

    slices: NonNegativeInt
    """Length of the stage, in training slices."""
    learning_rate: PositiveFloat = 2e-4
    patch: PositiveInt = 128
    """Side of a training patch in high-resolution pixels."""
    batch: PositiveInt = 8
    """Slices that go through the network at once, in each process."""


@dataclass(frozen=True, config=STRICT)
class Config:
    """A training run, read from TOML. `config/train.toml` explains every key."""

    data: Mapping[str, str]
    """Folder of each data set, by its name."""
    share: Mapping[str, NonNegativeFloat]
    """Relative frequency with which a sample comes from each of them."""
    stage_one: Stage
    stage_two: Stage | None = None
    """Without it, training ends after stage one. A network that trains in one stage must not have it."""
    split: Mapping[str, Path] = Field(default_factory=dict)
    """Split file for each data set whose own split should not be used; see `diffmsr/data/split.py`."""
    input_kind: Literal["magnitude", "complex"] = "magnitude"
    """What the network gets as target: magnitudes, as in DICOM, or complex images, as k-space gives them."""
    augmentation: Augmentation = Field(default_factory=Augmentation)
    acquisitions: Mix | None = None
    """How targets were acquired. Left out, all of them are clean."""
    preset: str = "small"
    network: Mapping[str, Any] = Field(default_factory=dict)
    """Fields of the preset to change, such as steps = 8. A changed network can be trained and measured, not exported."""
    init: Path | None = None
    """Folder of weights, or of another run, to start from. Tensors that do not fit by name and shape are initialised."""
    keep_initial: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the weights of `init` in the exported ones; the rest is what training made of them. Fine-tuned weights
    forget a part of what they could do before, and the mean of both keeps most of either (Wortsman et al. 2022)."""
    seed: Annotated[int, Field(ge=0, lt=2**22)] = 0
    """Bounded so that the seeds of the noise, which derive from it, fit into 63 bits."""
    joint: bool = True
    """Whether stage two trains the whole network by all losses (equation 10), or the diffusion alone by L_diff."""
    diffusion_first: NonNegativeInt = 0
    """Slices at the beginning of stage two in which the diffusion alone learns, by L_diff, before all learn together: a
    network that is given a poor prior learns to ignore it."""
    dc_weight: NonNegativeFloat = DC_WEIGHT
    """lambda_2 of equation 5."""
    schedule: Literal["cosine", "paper"] = "cosine"
    """How each stage's learning rate falls: as a cosine to a fiftieth, or by half at 50, 80, 90 and 95 % of the stage
    (section 4.2: at 250, 400, 450 and 475 of 500 thousand steps)."""
    warmup: NonNegativeInt = 4000
    """Slices over which each stage's learning rate rises at first."""
    accumulate: PositiveInt = 1
    """Batches per step. Their gradients are averaged before the weights change."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay per step of the averaged weights; smaller at the beginning of a stage."""
    clip: PositiveFloat = 1.0
    """Largest norm of a gradient."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the network's arithmetic. Transforms and losses are always float32."""
    compile: bool = False
    """Use torch.compile: the start takes minutes, later steps are faster. It needs a C++ compiler."""
    device: str = "cpu"
    replay: bool = True
    """On a GPU, replay each step as a CUDA graph. Not where several processes or batches share a step, nor with `compile`."""
    workers: PositiveInt = 1
    """Processes that draw samples, beside each training process. One draws about 270 slices per second."""
    tensorboard: bool = False
    """Write the log for TensorBoard too, into the folder `tensorboard` of the run."""
    log_every: PositiveInt = 2000
    validate_every: NonNegativeInt = 20000
    """Slices after which a run is validated, as it is at its end; 0: never."""
    checkpoint_minutes: NonNegativeFloat = 3.0

    @property
    def slices(self) -> int:
        """Length of the whole run."""
        return self.stage_one.slices + (self.stage_two.slices if self.stage_two else 0)

    @property
    def architecture(self) -> ModelConfig:
        """The preset with its changed fields. Raises TrainingError when the preset or a field is unknown or wrong."""
        try:
            preset = preset_named(self.preset)
        except UnknownPresetError as error:
            raise TrainingError(str(error)) from None
        unknown = set(self.network) - {field.name for field in fields(preset)} | {"name"} & set(self.network)
        if unknown:
            raise TrainingError(f"network: preset {self.preset} has no field {', '.join(sorted(unknown))} to change")
        try:
            return TypeAdapter(type(preset)).validate_python({**asdict(preset), **self.network})
        except ValidationError as error:
            raise TrainingError(f"network: {first_line(error)}") from None

    @property
    def objective(self) -> Objective:
        """What the losses depend on."""
        return Objective(dc_weight=self.dc_weight, joint=self.joint)

    def objective_at(self, slices: int) -> Objective:
        """What the losses of the step after so many slices depend on."""
        number, _, done = self.stage_at(slices)
        alone = number == 2 and done < self.diffusion_first
        return Objective(dc_weight=self.dc_weight, joint=self.joint and not alone)

    def stage_at(self, slices: int) -> tuple[int, Stage, int]:
        """Number and settings of the stage that a run is in after so many slices, and how many of them are of this stage."""
        if self.stage_two is None or slices < self.stage_one.slices:
            return 1, self.stage_one, slices
        return 2, self.stage_two, slices - self.stage_one.slices


def read_config(path: Path) -> Config:
    """A configuration from TOML. Raises TrainingError, in one line."""
    return read_toml(path, Config, check)


def read_toml(path: Path, kind: type[T], check: Callable[[T], None] = lambda read: None) -> T:
    """What a TOML file holds, as that type. `check` raises TrainingError when its parts do not fit each other. Raises
    TrainingError, in one line that names the file."""
    try:
        read: T = TypeAdapter(kind).validate_python(tomllib.loads(path.read_text()))
        check(read)
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        raise TrainingError(f"{path}: {first_line(error)}") from None
    except ValueError as error:  # of the encoding, of TOML, or from check
        raise TrainingError(f"{path}: {error}") from None
    return read


def check_shares(data: Collection[str], share: Mapping[str, float]) -> None:
    """Raise TrainingError when these are not shares of known data sets."""
    if not data or set(data) - set(DATASETS) or set(share) != set(data):
        raise TrainingError(f"data and share must name the same data sets, of {', '.join(DATASETS)}")
    if not any(share.values()):
        raise TrainingError("share: at least one data set needs a share above 0")


def check(config: Config) -> None:
    """Raise TrainingError when the parts of a configuration do not fit each other."""
    check_shares(config.data, config.share)
    if not config.stage_one.slices and config.init is None:
        raise TrainingError("stage_one.slices = 0: without stage one, init must name weights that have completed it")
    if config.keep_initial and config.init is None:
        raise TrainingError("keep_initial needs init, which names the weights to keep a share of")
    try:
        device = torch.device(config.device)
    except RuntimeError as error:
        raise TrainingError(f"device = {config.device!r}: {str(error).splitlines()[0]}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainingError(f"device = {config.device!r}: CUDA is not available here; use cpu")
    if set(config.split) - set(config.data):
        raise TrainingError("split names a data set that data does not name")
    architecture = config.architecture
    if config.stage_two and architecture.stages == 1:
        raise TrainingError(f"preset {config.preset} as configured trains in one stage: leave stage_two out")
    smallest = SCALE * architecture.smallest_side
    for stage in (config.stage_one, config.stage_two):
        if stage and (stage.patch % SCALE or stage.patch < smallest):
            raise TrainingError(
                f"patch = {stage.patch} must divide by {SCALE} and be at least {smallest}, the smallest image that preset "
                f"{config.preset} takes"
            )


def learning_rate(config: Config, slices: int) -> float:
    """The learning rate after so many slices. In each stage it rises over the warm-up and falls by the schedule."""
    _, stage, done = config.stage_at(slices)
    share = min(1.0, done / max(1, stage.slices))
    if config.schedule == "paper":
        decay = 0.5 ** sum(share >= milestone for milestone in (0.5, 0.8, 0.9, 0.95))
    else:
        decay = cosine(share)
    return stage.learning_rate * min(1.0, (done + 1) / max(1, config.warmup)) * decay


def cosine(share: float) -> float:
    """The factor of a learning rate after a share of its slices: from 1 to a fiftieth."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share))


def first_line(error: ValidationError) -> str:
    """The first error of a validation, in one line."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, first['loc']))}: {message}" if first["loc"] else message
