"""Ways to train the network, compared."""

import statistics
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffmsr.bench.inference import contiguous
from diffmsr.bench.turns import Task, in_turns
from diffmsr.images import zero_filled
from diffmsr.losses import DC_WEIGHT, data_consistency_loss, image_loss, prior_loss
from diffmsr.model import DiffMSR
from diffmsr.presets import Preset
from diffmsr.train import Config, Stage, start
from diffmsr.train.loop import step


def training(preset: Preset, device: str, rounds: int, batch: int = 8, patch: int = 128) -> dict[str, Any]:
    """Slices a second of the product's training step (bfloat16) and of a straightforward one (float32, convolutions on
    (b, c, h, w) memory, no averaged weights, no clipping), in turns, on the same random patches."""
    stage = Stage(slices=10**9, patch=patch, batch=batch)
    one, two = (Stage(slices=0), stage) if preset.prior else (stage, None)
    run = start(config := Config({"none": ""}, {"none": 1.0}, one, two, preset=preset.name, device=device))
    assert isinstance(run.model, DiffMSR)
    model = contiguous(run.model)
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    low, truth = (torch.rand(batch, 2, side, side, device=device) for side in (patch // preset.scale, patch))
    given = [low, truth, torch.rand_like(truth), zero_filled(low, preset.scale)]
    tasks: dict[str, Task] = {
        "straightforward": partial(_straightforward_step, model, optimizer, *given),
        "product": partial(step, run, config, [given]),
    }
    for task in tasks.values():
        task()
    times = in_turns(tasks, rounds, device)
    found: dict[str, Any] = {"batch": batch, "patch": patch, "precision": config.precision}
    for way, of in times.items():
        found[way] = {"slices_per_second": batch / statistics.median(of.clock), "best": batch / min(of.clock)}
    return found | {"product_over_straightforward": times["straightforward"].over(times["product"])}


def _straightforward_step(
    model: DiffMSR, optimizer: torch.optim.Optimizer, low: Tensor, truth: Tensor, reference: Tensor, skip: Tensor
) -> None:
    losses, prior = [], None
    if model.preset.prior:
        with torch.no_grad():
            target = model.prior_of(truth, low)
        prior = model.predicted_prior(low, model.diffusion.diffuse(target, torch.randn_like(target)))
        losses.append(prior_loss(prior, target))
    prediction = model.reconstruct(low, reference, prior, skip)
    losses += [image_loss(prediction, truth), DC_WEIGHT * data_consistency_loss(prediction, truth, low)]
    optimizer.zero_grad()
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
