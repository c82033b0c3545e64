"""What the network costs: parameters and FLOPs by counting, seconds and memory by measuring.

What is compared is measured in turns, so that a busy machine slows all of it alike: ratios hold, seconds are of the
minute. Nothing here is a test.
"""

from collections.abc import Sequence
from typing import Any

import torch

from diffmsr.bench.count import METHOD, counts
from diffmsr.bench.inference import inference
from diffmsr.bench.text import text
from diffmsr.bench.training import training
from diffmsr.bench.turns import machine
from diffmsr.presets import Preset

__all__ = ["measure", "text"]


def measure(
    preset: Preset, size: int, batches: Sequence[int], rounds: int, device: str, dtype: torch.dtype
) -> dict[str, Any]:
    """Counts of every preset, and times of one: see `counts`, `inference` and `training`."""
    return {
        "machine": machine(device),
        "method": METHOD,
        "size": size,
        "counts": counts(size),
        "preset": preset.name,
        "precision": str(dtype).removeprefix("torch."),
        "rounds": rounds,
        "inference": inference(preset, size, batches, device, dtype, rounds),
        "training": training(preset, device, rounds),
    }
