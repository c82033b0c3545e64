"""A run small enough for a test."""

from pathlib import Path

import pytest

from diffmsr.data import Augmentation
from diffmsr.models.diffmsr import DiffMSRConfig
from diffmsr.train import Config, Stage


@pytest.fixture
def config(mini: DiffMSRConfig, noise_lgg: Path) -> Config:
    """Two stages of three steps on slices of noise."""
    stage = Stage(slices=6, learning_rate=1e-3, patch=64, batch=2)
    return Config(
        preset="mini",
        data={"lgg": str(noise_lgg)},
        share={"lgg": 1.0},
        stage_one=stage,
        stage_two=stage,
        augmentation=Augmentation(misplacement=0),  # on images of noise, rounding then moves the weights more
        warmup=2,
        precision="float32",
        log_every=2,
        validate_every=6,
    )
