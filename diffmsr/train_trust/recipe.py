"""The recipe of a trust map."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from diffmsr.acquisition.draw import Mix
from diffmsr.data import SCALE, Augmentation
from diffmsr.train import TrainingError
from diffmsr.train.config import STRICT, check_shares, read_toml
from diffmsr.train_trust.corruption import Corruption


@dataclass(frozen=True, config=STRICT)
class Seen:
    """Patches that go through the frozen weights, once. This takes most of the time."""

    slices: PositiveInt
    """Their number."""
    patch: PositiveInt = 128
    """Side in high-resolution pixels."""
    batch: PositiveInt = 4
    """Patches at once."""


@dataclass(frozen=True, config=STRICT)
class Fit:
    """Steps over what was seen, in a new order and with random flips in each epoch."""

    epochs: PositiveInt = 12
    batch: PositiveInt = 16
    learning_rate: PositiveFloat = 3e-3


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """A run, read from TOML. `config/trust.toml` explains every key."""

    data: Mapping[str, str]
    """Folder of each data set, by its name."""
    share: Mapping[str, NonNegativeFloat]
    """Relative frequency with which a sample comes from each of them."""
    seen: Seen
    """What goes through the frozen weights."""
    fit: Fit
    """How the network learns from it."""
    weights: Path | None = None
    """Folder of the frozen weights whose errors are predicted; the shipped ones when left out."""
    split: Mapping[str, Path] = Field(default_factory=dict)
    """Split file for each data set whose own split should not be used."""
    augmentation: Augmentation = Field(default_factory=Augmentation)
    acquisitions: Mix = Field(default_factory=Mix)
    corruption: Corruption = Field(default_factory=Corruption)
    calibrate_every: PositiveInt = 4
    """The calibration takes every so many slices of each patient of the validation part."""
    seed: Annotated[int, Field(ge=0, lt=2**22)] = 0
    warmup: NonNegativeInt = 50
    """Steps over which the learning rate rises at first."""
    clip: PositiveFloat = 1.0
    """Largest norm of a gradient."""
    device: str = "cpu"
    log_every: PositiveInt = 50
    """Steps."""
    checkpoint_minutes: NonNegativeFloat = 2.0

    @property
    def steps(self) -> int:
        """Length of the fit."""
        return self.fit.epochs * (self.seen.slices // self.fit.batch)

    @property
    def input_kind(self) -> Literal["magnitude"]:
        return "magnitude"


def read_recipe(path: Path) -> Recipe:
    """A recipe from TOML. Raises TrainingError, in one line."""
    return read_toml(path, Recipe, _check)


def _check(recipe: Recipe) -> None:
    check_shares(recipe.data, recipe.share)
    if recipe.seen.patch % SCALE:
        raise TrainingError(f"seen.patch = {recipe.seen.patch} must divide by {SCALE}")
    if recipe.seen.slices < recipe.fit.batch:
        raise TrainingError(f"seen.slices = {recipe.seen.slices} is less than a batch of the fit")
