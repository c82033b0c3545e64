"""The samples of a run, as a function of its seed and of the slices seen so far."""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from diffmsr.acquisition.draw import Mix
from diffmsr.data import Augmentation, DataError, Slice, training_sample
from diffmsr.images import as_two_channels
from diffmsr.models import Batch
from diffmsr.train.config import Config, Stage, TrainingError

T = TypeVar("T")

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
    return Batch(low, truth, reference, skip, seeds, facts)


def positions(config: Config, seen: int, stage: Stage, rank: int, processes: int) -> list[int]:
    """Where this process's batches of the next step begin, when the run has seen so many slices.

    Only the size of a step decides which slices it takes. So n processes, or n times the accumulation, equal one process
    with n times the batch.
    """
    return [seen + (i * processes + rank) * stage.batch for i in range(config.accumulate)]


class Steps(Dataset[list[Batch] | DataError]):
    """This process's batches of each step that a run still has to take. Data that cannot be read are an item too, since an
    exception would reach the training process as a text of many lines."""

    def __init__(self, config: Config, pools: Pools, seen: int, rank: int, processes: int) -> None:
        self._config, self._pools = config, pools
        self._steps: list[tuple[list[int], Stage]] = []
        while seen < config.slices:
            _, stage, _ = config.stage_at(seen)
            self._steps.append((positions(config, seen, stage, rank, processes), stage))
            seen += processes * config.accumulate * stage.batch

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, number: int) -> list[Batch] | DataError:
        at, stage = self._steps[number]
        try:
            return [draw_batch(self._config, self._pools, position, stage) for position in at]
        except DataError as error:
            return error


def steps(config: Config, pools: Pools, seen: int, rank: int, processes: int) -> Iterator[list[Batch]]:
    """This process's batches of each step, on its device, from `seen` slices to the end of the run. Worker processes draw
    ahead. Raises DataError, and TrainingError when one of them dies."""
    drawn = DataLoader(
        Steps(config, pools, seen, rank, processes),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=config.workers,
        multiprocessing_context="fork",  # slices read themselves by functions, which cannot be sent
        worker_init_fn=_leave_signals_to_training,
    )
    for batches in _in_one_line(drawn):
        if isinstance(batches, DataError):
            raise batches
        yield [batch.to(config.device) for batch in batches]


def _in_one_line(drawn: Iterable[T]) -> Iterator[T]:
    """The items, with the death of a worker as a TrainingError."""
    try:
        yield from drawn
    except RuntimeError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise TrainingError(f"a process that draws samples ended ({reason}): is there memory for `workers`?") from None


def _as_it_is(batches: list[Batch] | DataError) -> list[Batch] | DataError:
    return batches


def _leave_signals_to_training(number: int) -> None:
    """A signal to the whole group asks the training process to stop, which takes its last step with what workers draw."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
