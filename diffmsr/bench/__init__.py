"""What networks cost: parameters and FLOPs by counting (`count`), seconds and memory by measuring
(`inference_time`, `training_time`, `timing`); `text` sets the figures for reading.

The things that are compared run alternately, so that a busy machine slows all of them alike: ratios hold, while seconds
hold for the moment only.
Nothing here is a test.
"""

from collections.abc import Sequence
from typing import Any

import torch

from diffmsr.bench.count import METHOD, counts
from diffmsr.bench.inference_time import inference_times
from diffmsr.bench.text import text
from diffmsr.bench.timing import machine
from diffmsr.bench.training_time import training_times
from diffmsr.models import ModelConfig

__all__ = ["measure", "text"]


def measure(
    config: ModelConfig, size: int, batches: Sequence[int], rounds: int, device: str, dtype: torch.dtype
) -> dict[str, Any]:
    """Counts of every preset, and times of one: see `counts`, `inference_times` and `training_times`."""
    return {
        "machine": machine(device),
        "method": METHOD,
        "size": size,
        "counts": counts(size),
        "preset": config.name,
        "precision": str(dtype).removeprefix("torch."),
        "rounds": rounds,
        "inference": inference_times(config, size, batches, device, dtype, rounds),
        "training": training_times(config, device, rounds),
    }
