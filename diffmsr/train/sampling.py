"""The samples of a run, as a function of its seed and of the slices seen so far."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from diffmsr.acquisition.draw import Mix
from diffmsr.data import Augmentation, Slice, training_sample
from diffmsr.images import as_two_channels
from diffmsr.models import Batch
from diffmsr.train.config import Config, Stage

Pools = Mapping[str, Sequence[Slice]]
"""Training slices of each data set."""
Change = Callable[[Slice, Sequence[Slice], np.random.Generator], Slice]
"""Makes another slice of one, with the other slices of its data set at hand."""


class Drawing(Protocol):
    """What a configuration says about the samples of a run; `config/train.toml` explains every key."""

    @property
    def share(self) -> Mapping[str, float]: ...
    @property
    def seed(self) -> int: ...
    @property
    def augmentation(self) -> Augmentation: ...
    @property
    def acquisitions(self) -> Mix | None: ...
    @property
    def input_kind(self) -> str: ...
    @property
    def device(self) -> str: ...


class PatchSize(Protocol):
    """What a batch consists of."""

    @property
    def patch(self) -> int: ...
    @property
    def batch(self) -> int: ...


def draw_batch(config: Drawing, pools: Pools, seen: int, stage: PatchSize, change: Change | None = None) -> Batch:
    """The batch that follows after `seen` slices, in the CPU's memory, of slices as `change` makes them."""
    names = sorted(config.share)
    share = np.array([config.share[name] for name in names])
    samples = []
    for i in range(stage.batch):
        rng = np.random.default_rng([config.seed, seen + i])
        pool = pools[names[int(rng.choice(len(names), p=share / share.sum()))]]
        piece = pool[int(rng.integers(len(pool)))]
        piece = change(piece, pool, rng) if change else piece
        samples.append(
            training_sample(piece, stage.patch, rng, config.augmentation, config.input_kind, config.acquisitions)
        )
    *images, facts = (torch.stack(part) for part in zip(*samples, strict=True))
    low, truth, reference, skip = map(as_two_channels, images)
    seeds = [config.seed * 2**40 + seen + i for i in range(stage.batch)]
    batch = Batch(low, truth, reference, skip, seeds, facts)
    return batch.each(torch.Tensor.pin_memory) if torch.device(config.device).type == "cuda" else batch


def positions(config: Config, seen: int, stage: Stage, rank: int, processes: int) -> list[int]:
    """Where this process's batches of the next step begin, when the run has seen so many slices.

    Only the size of a step decides which slices it takes. So n processes, or n times the accumulation, equal one process
    with n times the batch.
    """
    return [seen + (i * processes + rank) * stage.batch for i in range(config.accumulate)]


def steps(config: Config, pools: Pools, seen: int, rank: int, processes: int) -> Iterator[list[Batch]]:
    """This process's batches of each step, on its device, from `seen` slices to the end of the run. Threads draw ahead."""

    def draw(at: Sequence[int], stage: Stage) -> list[Batch]:
        return [draw_batch(config, pools, position, stage) for position in at]

    # Sent to the device here: a thread does not know which GPU is its process's own.
    def send(drawn: Future[list[Batch]]) -> list[Batch]:
        return [batch.each(lambda image: image.to(config.device, non_blocking=True)) for batch in drawn.result()]

    waiting: deque[Future[list[Batch]]] = deque()
    with ThreadPoolExecutor(config.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            while seen < config.slices:
                _, stage, _ = config.stage_at(seen)
                waiting.append(pool.submit(draw, positions(config, seen, stage, rank, processes), stage))
                seen += processes * config.accumulate * stage.batch
                if len(waiting) > config.workers:
                    yield send(waiting.popleft())
            while waiting:
                yield send(waiting.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
