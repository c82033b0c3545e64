"""Parameters and FLOPs, by counting."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diffmsr.models import PRESETS, Model, build

METHOD = (
    "FLOPs are 2 x MAC of the convolutions and matrix products of one slice, as torch.utils.flop_counter sees them; the "
    "skip path's Fourier transforms, softmax, norms and activations are left out; parameters are unique ones, and those "
    "that only training needs are apart"
)


def counts(size: int) -> list[dict[str, Any]]:
    """Millions of parameters, and GFLOP at size x size, plain and optimised, of every preset and its variants."""
    found = []
    for preset in list(PRESETS.values()):
        for variant, config in (preset.variants() or {"": preset}).items():
            with torch.device("meta"):
                model = build(config).eval()
                inputs = random_inputs(model, 1, size)
            training_only = parameters_of(*model.training_only)
            found.append(
                {
                    "preset": preset.name,
                    "variant": variant,
                    "parameters": (parameters_of(model) - training_only) / 1e6,
                    "training_only": training_only / 1e6,
                    "gflop": gflop_of(model, inputs),
                    "gflop_fast": gflop_of(model.optimised(torch.float32), inputs),
                }
            )
    return found


def parameters_of(*parts: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def gflop_of(network: nn.Module, inputs: Sequence[Tensor]) -> float:
    """Of one call, by METHOD."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    flops: int = counter.get_total_flops()
    return flops / 1e9


def random_inputs(model: Model, n: int, size: int) -> list[Tensor]:
    """Low, reference and noise of n slices."""
    low, reference = (torch.rand(n, 2, side, side) for side in (size, model.config.scale * size))
    return [low, reference, torch.randn(n, *model.noise_shape(size, size))]
