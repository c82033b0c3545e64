"""Milliseconds of every method in one interleaved run, and quality and time against the steps of a diffusion (Figure 1)."""

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffmsr.bench.count import gflop_of, parameters_of, random_inputs
from diffmsr.bench.timing import Task, in_turns, machine
from diffmsr.compare import CLEAN, slice_scores
from diffmsr.data import Slice
from diffmsr.models import Model, ModelConfig, build
from diffmsr.train import Config

SIDE = 64
"""Of the low-resolution slice: a quarter of 256."""


def counts_of(config: ModelConfig) -> dict[str, float]:
    """Unique parameters of inference, those that only training needs, and GFLOP of a slice of 256 x 256, plain."""
    with torch.device("meta"):
        model = build(config).eval()
        inputs = random_inputs(model, 1, SIDE)
    training_only = parameters_of(*model.training_only)
    return {
        "parameters": parameters_of(model) - training_only,
        "training_only": training_only,
        "gflop": gflop_of(model, inputs),
    }


@torch.inference_mode()
def times_of(models: Mapping[str, Model], rounds: int) -> dict[str, Any]:
    """Milliseconds of a slice of 256 x 256, by the form of the network that inference runs, all methods in turns: the median
    by the clock, the smallest, and the smallest processor time."""
    tasks: dict[str, Task] = {}
    for name, model in models.items():
        network, inputs = model.optimised(torch.float32), random_inputs(model, 1, SIDE)
        tasks[name] = partial(_called, network, inputs)
    return _in_turns(tasks, rounds, "inference")


def with_steps(model: Model, steps: int) -> Model:
    """The same weights with so many steps of their diffusion, without training again."""
    other = build(replace(model.config, steps=steps)).eval()  # type: ignore[call-arg]
    other.load_state_dict(model.state_dict())
    return other


def has_steps(config: ModelConfig) -> bool:
    """Whether a network has a diffusion: a number of steps in its configuration."""
    return "steps" in {field.name for field in fields(config)} and getattr(config, "prior", True)


@torch.inference_mode()
def steps_of(
    models: Mapping[str, tuple[Model, Config]],
    patients: Mapping[str, Sequence[Slice]],
    steps: Sequence[int],
    rounds: int,
) -> dict[str, Any]:
    """Figure 1: of each diffusion, by its number of steps, the mean PSNR of the patients' middle clean slices, and seconds of
    a slice of 256 x 256, all in turns."""
    chosen = [pieces[len(pieces) // 2] for pieces in patients.values()]
    tasks: dict[str, Task] = {}
    quality: dict[str, dict[int, float]] = {}
    for name, (model, config) in models.items():
        for n in steps:
            other = with_steps(model, n)
            tasks[f"{name}|{n}"] = partial(_called, other.optimised(torch.float32), random_inputs(other, 1, SIDE))
            of = [slice_scores(other, name, piece, config)[CLEAN][name]["psnr"] for piece in chosen]
            quality.setdefault(name, {})[n] = float(np.mean(of))
    times = _in_turns(tasks, rounds, "inference by steps")
    curves = {
        name: [
            {"steps": n, "psnr": psnr, "seconds": times["ms"][f"{name}|{n}"]["median"] / 1e3} for n, psnr in of.items()
        ]
        for name, of in quality.items()
    }
    return {**{key: times[key] for key in ("machine", "load", "rounds")}, "slices": len(chosen), "curves": curves}


def _called(network: nn.Module, inputs: Sequence[Tensor]) -> None:
    network(*inputs)


def _in_turns(tasks: Mapping[str, Task], rounds: int, what: str) -> dict[str, Any]:
    for task in tasks.values():
        task()
    times = in_turns(tasks, rounds, "cpu", what)
    ms = {
        name: {
            "median": 1e3 * statistics.median(of.clock),
            "min": 1e3 * min(of.clock),
            "processor": 1e3 * min(of.processor),
        }
        for name, of in times.items()
    }
    return {"machine": machine("cpu"), "load": os.getloadavg()[0], "rounds": rounds, "ms": ms}
