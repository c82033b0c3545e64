"""Ways to run a network, compared."""

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from diffmsr.bench.count import gflop_of, random_inputs
from diffmsr.bench.timing import Task, in_turns, peak_memory
from diffmsr.models import Model, ModelConfig, build
from diffmsr.models.kernels import FastLinear


def inference_times(
    config: ModelConfig, size: int, batches: Sequence[int], device: str, dtype: torch.dtype, rounds: int
) -> list[dict[str, Any]]:
    """Seconds per slice, share of the device's matrix products and peak memory, at each batch, of several ways:

    the network's `comparisons`, such as `contiguous`, and `plain`, the network unchanged, in float32; `fast`, its
    optimised form in `dtype`. They run alternately with a large matrix product in `dtype`, which is the ceiling: GFLOP per
    second of a GPU, or of one thread of a CPU.
    """
    torch.manual_seed(0)
    plain = _lively(build(config)).to(device).eval()
    ways: dict[str, nn.Module] = {**plain.comparisons(), "plain": plain, "fast": plain.optimised(dtype)}
    with torch.device("meta"):
        meta = build(config).eval()
        one = random_inputs(meta, 1, size)
    gflop = dict.fromkeys(ways, gflop_of(meta, one)) | {"fast": gflop_of(meta.optimised(torch.float32), one)}
    product, product_gflop = _product(device, dtype)
    found = []
    for batch in batches:
        inputs = [x.to(device) for x in random_inputs(plain, batch, size)]
        with torch.inference_mode():
            tasks: dict[str, Task] = {way: partial(network, *inputs) for way, network in ways.items()}
            memory = {way: peak_memory(task, device) for way, task in tasks.items()}
            images = {way: ways[way](*inputs) for way in ("plain", "fast")}
            times = in_turns(tasks | {"product": product}, rounds, device, f"inference, {batch} at a time")
        ceiling = product_gflop / times.pop("product").least(device)
        row: dict[str, Any] = {
            "batch": batch,
            "ceiling_gflops": ceiling,
            "difference": float((images["fast"] - images["plain"]).abs().max() / images["plain"].abs().max()),
        }
        for way, of in times.items():
            row[way] = {
                "min": min(of.clock) / batch,
                "median": statistics.median(of.clock) / batch,
                "processor": min(of.processor) / batch,
                "share_of_ceiling": gflop[way] * batch / of.least(device) / ceiling,
                "peak_mib": memory[way],
            }
        row |= {f"fast_over_{way}": times[way].over(times["fast"]) for way in ways if way != "fast"}
        found.append(row)
    return found


def _lively(model: Model) -> Model:
    """With noise in the parameters that start at zero: an untrained network may be the skip path alone."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


def _product(device: str, dtype: torch.dtype) -> tuple[Task, float]:
    """A matrix product that keeps the device busy, by the routine that fast networks use; and its GFLOP."""
    side = 8192 if torch.device(device).type == "cuda" else 1024
    layer = FastLinear(side, side).to(device, dtype).requires_grad_(False)
    return partial(layer, torch.randn(side, side, device=device, dtype=dtype)), 2 * side**3 / 1e9
