"""Ways to train a network, compared."""

import copy
import statistics
from functools import partial
from typing import Any

import torch

from diffmsr.acquisition import FEATURES
from diffmsr.bench.timing import Task, in_turns
from diffmsr.images import zero_filled_channels
from diffmsr.models import Batch, Model, ModelConfig, Objective
from diffmsr.train import Config, Stage, start
from diffmsr.train.replay import WARM_UP, way_of
from diffmsr.train.step import step


def training_times(config: ModelConfig, device: str, rounds: int, batch: int = 8, patch: int = 128) -> dict[str, Any]:
    """Slices per second of the product's training step (bfloat16) and of a straightforward one, run alternately on the
    same random patches.

    The straightforward step is in float32, of the network as such networks are commonly written, without averaged
    weights and clipping.
    """
    stage = Stage(slices=10**9, patch=patch, batch=batch)
    one, two = (Stage(slices=0), stage) if config.stages == 2 else (stage, None)
    run = start(settings := Config({"none": ""}, {"none": 1.0}, one, two, preset=config.name, device=device))
    model = next(iter(run.model.comparisons().values()), copy.deepcopy(run.model))
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    low, truth = (torch.rand(batch, 2, side, side, device=device) for side in (patch // config.scale, patch))
    facts = torch.zeros(batch, FEATURES, device=device)
    given = Batch(low, truth, torch.rand_like(truth), zero_filled_channels(low, config.scale), range(batch), facts)
    tasks: dict[str, Task] = {
        "straightforward": partial(_straightforward_step, model, optimizer, given, run.stage),
        "product": partial(step, run, settings, [given], way_of(settings)),
    }
    for task in [*tasks.values()] * WARM_UP:
        task()
    times = in_turns(tasks, rounds, device, "training")
    found: dict[str, Any] = {"batch": batch, "patch": patch, "precision": settings.precision}
    for way, of in times.items():
        found[way] = {"slices_per_second": batch / statistics.median(of.clock), "best": batch / min(of.clock)}
    return found | {"product_over_straightforward": times["straightforward"].over(times["product"])}


def _straightforward_step(model: Model, optimizer: torch.optim.Optimizer, batch: Batch, stage: int) -> None:
    losses = model.loss(batch, stage, Objective())
    optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
