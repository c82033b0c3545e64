"""What each variant trains, and what variants share."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from diffmsr.data.contrast import contrast_named
from diffmsr.train.config import STRICT, Config, TrainingError, check, first_line, read_toml

ABLATIONS = Path(__file__).parent / "ablations.toml"
"""The paper's ablations at a small budget."""
STAGE_TWO_SEED = 1000
"""Added to the seed in stage two, which would otherwise see the samples of stage one again."""


@dataclass(frozen=True, config=STRICT)
class Variant:
    """How one variant differs from the common training configuration."""

    name: str
    table: str
    """The heading under which its row stands."""
    network: Mapping[str, Any] = Field(default_factory=dict)
    """Fields of the preset to change."""
    training: Mapping[str, Any] = Field(default_factory=dict)
    """Keys of the training configuration to change."""
    paper: float | None = None
    """PSNR that the paper reports, in dB."""


@dataclass(frozen=True, config=STRICT)
class Ablation:
    """A set of variants; `ablations.toml` explains every key."""

    train: Mapping[str, Any]
    variants: tuple[Variant, ...]
    dataset: str
    target: str
    reference: str
    full: str
    seeds: PositiveInt = 1


def read_ablation(
    path: Path, root: Path | None = None, seeds: int | None = None, device: str | None = None
) -> Ablation:
    """An ablation from TOML. `root`, `seeds` and `device` replace the folder of its data set, its number of seeds, and where
    it trains.

    Raises TrainingError, in one line, also when a variant does not give a valid training configuration.
    """
    ablation = read_toml(path, Ablation)
    if root is not None:
        data = {**ablation.train.get("data", {}), ablation.dataset: str(root)}
        ablation = replace(ablation, train={**ablation.train, "data": data})
    if device is not None:
        ablation = replace(ablation, train={**ablation.train, "device": device})
    target, reference = contrast_named(ablation.target), contrast_named(ablation.reference)
    ablation = replace(ablation, seeds=seeds or ablation.seeds, target=target, reference=reference)
    folders = [folder_name(variant.name) for variant in ablation.variants]
    if len(set(folders)) < len(folders):
        raise TrainingError(f"{path}: two variants have the same name")
    if ablation.full not in (variant.name for variant in ablation.variants):
        raise TrainingError(f"{path}: full = {ablation.full!r} is not one of the variants")
    for variant in ablation.variants:
        config_of(ablation, variant, seed=0)
    return ablation


def config_of(ablation: Ablation, variant: Variant, seed: int) -> Config:
    """The training configuration of a variant. A network with one stage trains as long as the others do in both."""
    common = {} if "preset" in variant.training else ablation.train.get("network", {})
    values = {**ablation.train, **variant.training, "network": {**common, **variant.network}}
    try:
        config = TypeAdapter(Config).validate_python(values)
        config = replace(config, seed=config.seed + seed)
        if config.architecture.stages == 1:
            config = replace(config, stage_one=replace(config.stage_one, slices=config.slices), stage_two=None)
        check(config)
    except ValidationError as error:
        raise TrainingError(f"variant {variant.name!r}: {first_line(error)}") from None
    except TrainingError as error:
        raise TrainingError(f"variant {variant.name!r}: {error}") from None
    return config


def runs_of(config: Config, name: str, home: Path) -> list[tuple[Path, Config]]:
    """Folder and configuration of the training runs that make a variant, in order.

    Stage one is a separate run, in a folder named after its configuration. So variants that differ only in stage two
    start it from the same weights, as in the paper.
    """
    last = home / folder_name(name)
    if config.stage_two is None:
        return [(last, config)]
    later = config.architecture.stage_two_fields
    network = {field: value for field, value in config.network.items() if field not in later}
    one = replace(config, stage_two=None, joint=True, network=network)
    shared = home / f"stage-one-{hashlib.sha256(as_json(one).encode()).hexdigest()[:8]}"
    two = replace(config, stage_one=replace(config.stage_one, slices=0), init=shared, seed=config.seed + STAGE_TWO_SEED)
    return [(shared, one), (last, two)]


def as_json(config: Config) -> str:
    """A configuration as text that is equal for equal configurations."""
    return json.dumps(asdict(config), sort_keys=True, default=str)


def folder_name(name: str) -> str:
    """A folder name for a variant."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("w/o", "without")).strip("-")
