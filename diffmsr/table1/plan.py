"""What is compared, and how each method trains. `config/table1.toml` explains every key."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from diffmsr.ablate.plan import folder_name
from diffmsr.train.config import STRICT, Config, TrainingError, check, first_line, read_toml

ALIKE = frozenset(
    {"data", "share", "split", "input_kind", "augmentation", "acquisitions", "seed", "preset", "stage_one", "stage_two"}
)
"""Keys of the training configuration that a method must not change: what all methods see is the same."""


@dataclass(frozen=True, config=STRICT)
class Published:
    """The method's row of the paper's Table 1."""

    parameters: PositiveFloat
    """Millions."""
    gflop: PositiveFloat
    ms: PositiveFloat
    psnr: PositiveFloat
    """In dB, of Clinical Brain: T2-FLAIR guided by T1."""


@dataclass(frozen=True, config=STRICT)
class Method:
    """A row of the table."""

    name: str
    preset: str
    source: str
    """Its publication, in short."""
    scaled: str
    """How it differs from its publication."""
    published: Published | None = None
    training: Mapping[str, Any] = Field(default_factory=dict)
    """Keys of the training configuration to change."""
    note: str = ""
    """What else a reader has to know, such as what was tried to make the method work."""

    @property
    def folder(self) -> str:
        """Name of the folder of its run."""
        return folder_name(self.name)


@dataclass(frozen=True, config=STRICT)
class Plan:
    """The comparison."""

    minutes: PositiveFloat
    stage_one_share: Annotated[float, Field(gt=0, lt=1)]
    compared: str
    dataset: str
    split: str
    every: PositiveInt
    rounds: PositiveInt
    steps: tuple[PositiveInt, ...]
    train: Mapping[str, Any]
    methods: tuple[Method, ...]


def read_plan(path: Path, split: str | None = None) -> Plan:
    """A plan from TOML. `split` replaces the part of the split that is measured. Raises TrainingError, in one line, also when
    a method does not give a valid training configuration."""
    plan = read_toml(path, Plan)
    if len({method.folder for method in plan.methods}) < len(plan.methods):
        raise TrainingError(f"{path}: two methods have the same name")
    if plan.compared not in (method.name for method in plan.methods):
        raise TrainingError(f"{path}: compared = {plan.compared!r} is not one of the methods")
    for method in plan.methods:
        if unlike := sorted(ALIKE & set(method.training)):
            raise TrainingError(f"{path}: method {method.name!r} must not change {', '.join(unlike)}")
        stages = stages_of(plan, method)
        config = training(plan, method, [1] * stages)
        check(config)
        if plan.dataset not in config.data:
            raise TrainingError(f"{path}: dataset = {plan.dataset!r} is not in [train] data")
    return replace(plan, split=split or plan.split)


def stages_of(plan: Plan, method: Method) -> int:
    """Number of training stages of a method."""
    return _base(plan, method).architecture.stages


def training(plan: Plan, method: Method, slices: list[int]) -> Config:
    """The training configuration of a method for so many slices per stage. The settings of a stage are common to all."""
    config = _base(plan, method)
    first, *rest = (replace(config.stage_one, slices=n) for n in slices)
    return replace(config, stage_one=first, stage_two=rest[0] if rest else None)


def _base(plan: Plan, method: Method) -> Config:
    common = {"stage_one": {"slices": 1, **plan.train.get("stage", {})}}
    values = {key: value for key, value in plan.train.items() if key != "stage"}
    try:
        config: Config = TypeAdapter(Config).validate_python(
            {**common, **values, "preset": method.preset, **method.training}
        )
    except ValidationError as error:
        raise TrainingError(f"method {method.name!r}: {first_line(error)}") from None
    return config
