"""The training loop minimises a model's `loss`, step by step."""

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from diffmsr.data import DataError, Slice, read_slices
from diffmsr.train import distributed
from diffmsr.train.checkpoint import CHECKPOINT, Run, enter_stage_two, resume, save, start, take_weights
from diffmsr.train.config import Config, TrainingError, check
from diffmsr.train.progress import Follower, following
from diffmsr.train.replay import way_of
from diffmsr.train.sampling import Pools, steps
from diffmsr.train.step import step
from diffmsr.train.validation import validate

VALIDATED = 4
"""Validation takes every fourth slice of its part of the split."""


def train(config: Config, folder: Path, minutes: float | None = None) -> Run:
    """Train for the configured number of slices, or for so many minutes. Continues from a checkpoint in `folder`.

    SIGINT and SIGTERM end training as the minutes do: after the current step, with a checkpoint. Raises TrainingError and
    DataError.
    """
    check(config)
    rank, processes = distributed.join(config.device)
    first = rank == 0
    slices = {name: read_slices(name, Path(root), config.split.get(name)) for name, root in config.data.items()}
    pools = {name: [piece for piece in pieces if piece.part == "train"] for name, pieces in slices.items()}
    unseen = [
        piece for pieces in slices.values() for piece in [p for p in pieces if p.part == "validation"][::VALIDATED]
    ]
    if not all(pools.values()):
        raise DataError(f"no training slices in {', '.join(name for name, pool in pools.items() if not pool)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with following(folder, config.slices, config.tensorboard, first) as follower, stop_asked() as asked:
            run = _begin(config, folder, follower)
            follower.advanced(run.slices, run.stage)
            follower.record(slices=run.slices, processes=processes, config=asdict(config))
            _train_steps(run, config, pools, unseen, folder, minutes, follower, asked)
            if first:
                save(run, folder)
    except OSError as error:
        raise TrainingError(f"cannot write into {folder}: {error.strerror or error}") from None
    return run


def _begin(config: Config, folder: Path, follower: Follower) -> Run:
    if (folder / CHECKPOINT).exists():
        return resume(config, folder)
    run = start(config)
    if config.init:
        taken = take_weights(run, config.init)
        if run.stage == 2:  # the teacher and the average come from the weights that were just taken
            enter_stage_two(run, config)
        follower.record(slices=0, init=taken)
        follower.say(taken)
    return run


@contextmanager
def stop_asked() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets. A second signal does what it always does."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may handle signals
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _train_steps(
    run: Run,
    config: Config,
    pools: Pools,
    unseen: Sequence[Slice],
    folder: Path,
    minutes: float | None,
    follower: Follower,
    asked: threading.Event,
) -> None:
    rank, processes = distributed.join(config.device)
    began, before, saved = time.monotonic(), run.minutes, time.monotonic()
    recent: list[dict[str, Tensor]] = []
    take = way_of(config)
    for batches in steps(config, pools, run.slices, rank, processes):
        over = minutes is not None and run.minutes - before >= minutes
        if distributed.any_of(over or asked.is_set(), config.device):
            break
        if run.stage == 1 and config.stage_at(run.slices)[0] == 2:
            enter_stage_two(run, config)
            recent.clear()
        previous = run.slices
        recent.append(step(run, config, batches, take))
        run.minutes = before + (time.monotonic() - began) / 60
        follower.advanced(run.slices, run.stage)
        if previous // config.log_every != run.slices // config.log_every:
            losses = _mean(recent)
            follower.record(slices=run.slices, stage=run.stage, minutes=round(run.minutes, 2), **losses)
            recent.clear()
        if rank:
            continue
        every = config.validate_every
        if every and (previous // every != run.slices // every or run.slices >= config.slices):
            follower.record(
                slices=run.slices,
                gain_db=validate(run.average, unseen, run.stage, config.input_kind, config.acquisitions),
            )
        if time.monotonic() - saved > 60 * config.checkpoint_minutes:
            save(run, folder)
            saved = time.monotonic()


def _mean(recent: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Losses of several steps and all processes."""
    means = {name: torch.stack([losses[name] for losses in recent]).mean() for name in recent[0]}
    distributed.average(means.values())
    return {name: float(mean) for name, mean in means.items()}
