"""Ways to run the network, compared."""

import copy
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from diffmsr.bench.count import gflop_of, random_inputs
from diffmsr.bench.turns import Task, in_turns, peak_memory
from diffmsr.blocks import Conv
from diffmsr.fast import FastLinear, fast_network
from diffmsr.model import DiffMSR
from diffmsr.presets import Preset


def inference(
    preset: Preset, size: int, batches: Sequence[int], device: str, dtype: torch.dtype, rounds: int
) -> list[dict[str, Any]]:
    """Seconds a slice, share of the device's matrix products and peak memory, at each batch, of three ways:

    `contiguous`, the network with every convolution on (b, c, h, w) memory, as code is commonly written; `plain`, the
    network as it stands, both in float32; `fast`, the folded network in `dtype`. All take turns with a large matrix
    product in `dtype`, which is the ceiling: GFLOP per second of a GPU, or of one thread of a CPU.
    """
    torch.manual_seed(0)
    plain = DiffMSR(preset).to(device).eval()
    for parameter in plain.tail.parameters():
        nn.init.normal_(parameter, std=0.1)  # else the image is the skip path alone
    ways = {"contiguous": contiguous(plain), "plain": plain, "fast": fast_network(plain, dtype)}
    with torch.device("meta"):
        unfolded, one = DiffMSR(preset).eval(), random_inputs(preset, 1, size)
    gflop = dict.fromkeys(ways, gflop_of(unfolded, one)) | {"fast": gflop_of(fast_network(unfolded), one)}
    product, product_gflop = _product(device, dtype)
    found = []
    for batch in batches:
        inputs = [x.to(device) for x in random_inputs(preset, batch, size)]
        with torch.inference_mode():
            tasks: dict[str, Task] = {way: partial(network, *inputs) for way, network in ways.items()}
            memory = {way: peak_memory(task, device) for way, task in tasks.items()}
            images = {way: ways[way](*inputs) for way in ("plain", "fast")}
            times = in_turns(tasks | {"product": product}, rounds, device)
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
        row |= {f"fast_over_{way}": times[way].over(times["fast"]) for way in ("contiguous", "plain")}
        found.append(row)
    return found


def contiguous(model: DiffMSR) -> DiffMSR:
    """A copy whose convolutions get, and so give, (b, c, h, w) memory."""
    model = copy.deepcopy(model)

    def rearranged(module: nn.Module, arguments: tuple[Tensor]) -> Tensor:
        return rearrange(rearrange(arguments[0], "b h w c -> b c h w").contiguous(), "b c h w -> b h w c")

    for part in model.modules():
        if isinstance(part, Conv):
            part.register_forward_pre_hook(rearranged)
    return model


def _product(device: str, dtype: torch.dtype) -> tuple[Task, float]:
    """A matrix product that keeps the device busy, by the routine `FastDiffMSR` uses; and its GFLOP."""
    side = 8192 if torch.device(device).type == "cuda" else 1024
    layer = FastLinear(side, side).to(device, dtype).requires_grad_(False)
    return partial(layer, torch.randn(side, side, device=device, dtype=dtype)), 2 * side**3 / 1e9
