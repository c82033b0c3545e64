"""Equal processor time for every method: minutes become slices, by what a training step of each method costs.

The cost is measured once, for all methods in turns, so that a busy machine slows all of them alike. A run is then a number
of slices, which makes it repeatable and lets it stop and go on anywhere; a clock beside each run would give the method that
trained beside a noisy neighbour less.
"""

import os
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from diffmsr.bench.timing import Task, in_turns, machine
from diffmsr.data import read_slices
from diffmsr.table1.plan import Method, Plan, stages_of, training
from diffmsr.train import Config, Run, start
from diffmsr.train.sampling import Pools, draw_batch
from diffmsr.train.step import step

ENOUGH = 10**9
"""Slices of a stage that a measurement does not reach the end of."""

Costs = Mapping[str, Sequence[float]]
"""Processor seconds of a training slice in each stage, by method."""


def measured_costs(plan: Plan, rounds: int) -> dict[str, Any]:
    """What a training slice costs, in processor seconds of all threads, drawing it included: the median over `rounds` in each
    of which every method and stage takes one step. Raises DataError."""
    tasks: dict[str, Task] = {}
    pools = pools_of(training(plan, plan.methods[0], [1]))
    for method in plan.methods:
        for stage in range(1, stages_of(plan, method) + 1):
            slices = [ENOUGH] if stages_of(plan, method) == 1 else [ENOUGH * (2 - stage), ENOUGH]
            config = training(plan, method, slices)
            tasks[_key(method, stage)] = partial(_one_step, start(config), config, pools)
    for task in tasks.values():
        task()
    times = in_turns(tasks, rounds, "cpu", "cost of a training step")
    seconds = {
        method.name: [
            statistics.median(times[_key(method, stage)].processor) / training(plan, method, [1]).stage_one.batch
            for stage in range(1, stages_of(plan, method) + 1)
        ]
        for method in plan.methods
    }
    return {"machine": machine("cpu"), "load": os.getloadavg()[0], "rounds": rounds, "seconds": seconds}


def pools_of(config: Config) -> Pools:
    """The training slices of each data set. Raises DataError."""
    return {
        name: [piece for piece in read_slices(name, Path(root), config.split.get(name)) if piece.part == "train"]
        for name, root in config.data.items()
    }


def slices_for(plan: Plan, method: Method, costs: Costs, stage_one: int | None = None) -> list[int]:
    """Training slices of each stage that the plan's minutes pay for, in whole batches, at least one.

    Of two stages, the first gets `stage_one_share` of the minutes. A run that has already left it keeps its `stage_one`
    slices, and the second stage gets what remains.
    """
    batch = training(plan, method, [1]).stage_one.batch
    of_stages, total = costs[method.name], 60 * plan.minutes

    def affordable(seconds: float, cost: float) -> int:
        return max(1, int(seconds / (cost * batch))) * batch

    if len(of_stages) == 1:
        return [affordable(total, of_stages[0])]
    first = affordable(plan.stage_one_share * total, of_stages[0]) if stage_one is None else stage_one
    return [first, affordable(total - first * of_stages[0], of_stages[1])]


def minutes_of(config: Config, slices: int, costs: Sequence[float]) -> float:
    """Processor minutes that a run of so many slices cost."""
    of_stages = [min(slices, config.stage_one.slices), max(0, slices - config.stage_one.slices)]
    return sum(n * cost for n, cost in zip(of_stages, costs, strict=False)) / 60


def _key(method: Method, stage: int) -> str:
    return f"{method.name}, stage {stage}"


def _one_step(run: Run, config: Config, pools: Pools) -> None:
    _, stage, _ = config.stage_at(run.slices)
    step(run, config, [draw_batch(config, pools, run.slices, stage)])
