"""Parameters and FLOPs, by counting."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diffmsr.fast import fast_network
from diffmsr.model import DiffMSR
from diffmsr.presets import PRESETS, Preset

METHOD = (
    "FLOPs are 2 x MAC of one slice's convolutions and matrix products, as torch.utils.flop_counter sees them; Fourier "
    "transforms of the skip path, softmax, norms and activations are left out; parameters are unique ones, without PE"
)
RATIOS = (1, 2, 4)
"""k of Table 3."""


def counts(size: int) -> list[dict[str, Any]]:
    """Millions of parameters, and GFLOP at size x size, plain and folded, of every preset at every k."""
    found = []
    for preset in (preset for preset in PRESETS.values() if isinstance(preset, Preset)):
        for k in RATIOS:
            with torch.device("meta"):
                model, inputs = DiffMSR(replace(preset, k=k)).eval(), random_inputs(preset, 1, size)
            encoder = sum(p.numel() for p in model.encoder.parameters()) if preset.prior else 0
            found.append({
                "preset": preset.name, "k": k,
                "parameters": (sum(p.numel() for p in model.parameters()) - encoder) / 1e6,
                "pe": encoder / 1e6,
                "gflop": gflop_of(model, inputs),
                "gflop_fast": gflop_of(fast_network(model), inputs),
            })  # fmt: skip
    return found


def gflop_of(network: nn.Module, inputs: Sequence[Tensor]) -> float:
    """Of one call, by METHOD."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    flops: int = counter.get_total_flops()
    return flops / 1e9


def random_inputs(preset: Preset, n: int, size: int) -> list[Tensor]:
    """Low, reference and noise of n slices."""
    low, reference = (torch.rand(n, 2, side, side) for side in (size, preset.scale * size))
    return [low, reference, torch.randn(n, preset.z_size)]
