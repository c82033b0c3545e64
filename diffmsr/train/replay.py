"""Training steps as CUDA graphs. A step of a small network is several thousand short kernels, and a processor takes longer to
launch them than a GPU to run them; a graph is one launch."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffmsr.models import Batch, Losses, Objective
from diffmsr.train import distributed
from diffmsr.train.checkpoint import Run
from diffmsr.train.config import Config
from diffmsr.train.step import Update, update

WARM_UP = 3
"""Steps taken launch by launch before one is captured: libraries choose their algorithms in the first ones."""


@dataclass(frozen=True)
class HeldBatch(Batch):
    """A batch whose tensors stay in their place, so that a graph can read the next batch there."""

    drawn: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    """Noise by shape, as far as the losses have asked for it."""

    def noise(self, shape: Sequence[int]) -> Tensor:
        """As of a batch, drawn when a shape is first asked for."""
        if tuple(shape) not in self.drawn:
            self.drawn[tuple(shape)] = super().noise(shape)
        return self.drawn[tuple(shape)]

    def uniform(self) -> Tensor:
        """As of a batch, drawn when it is first asked for."""
        if () not in self.drawn:
            self.drawn[()] = super().uniform()
        return self.drawn[()]

    def take(self, batch: Batch) -> None:
        """Hold the values of another batch."""
        for mine, given in zip((*self.images, self.facts), (*batch.images, batch.facts), strict=True):
            mine.copy_(given)
        for shape, mine in self.drawn.items():
            mine.copy_(batch.noise(shape) if shape else batch.uniform())


class ReplayedUpdate:
    """`update`, captured once for each kind of step of a run on a GPU."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._warm: dict[Hashable, tuple[int, HeldBatch]] = {}
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, HeldBatch, Tensor, Losses, Tensor]] = {}

    def __call__(
        self, run: Run, config: Config, batches: Sequence[Batch], objective: Objective, share: Tensor
    ) -> tuple[Losses, Tensor]:
        """As `update`."""
        (batch,) = batches
        kind = (run.stage, objective, tuple(image.shape for image in batch.images))
        if kind in self._graphs:
            graph, held, way, losses, norm = self._graphs[kind]
            held.take(batch)
            way.copy_(share)
            graph.replay()
            return {name: loss.clone() for name, loss in losses.items()}, norm.clone()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            done, held = self._warm.get(kind) or (0, HeldBatch(*batch.images, batch.seeds, batch.facts))
            held.take(batch)
            result = update(run, config, [held], objective, share)
        torch.cuda.current_stream().wait_stream(self._stream)
        self._warm[kind] = done + 1, held
        if done + 1 == WARM_UP:
            self._capture(kind, run, config, held, objective, share.clone())
        return result

    def _capture(
        self, kind: Hashable, run: Run, config: Config, held: HeldBatch, objective: Objective, share: Tensor
    ) -> None:
        run.optimizer.zero_grad()  # the graph makes the gradients, in its own memory
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=self._stream):
            losses, norm = update(run, config, [held], objective, share)
        self._graphs = {kind: (graph, held, share, losses, norm)}  # a run does not come back to an earlier kind
        self._warm = {}


def way_of(config: Config) -> Update:
    """How steps of a configuration are taken here."""
    alone = distributed.join(config.device)[1] == config.accumulate == 1
    on_gpu = torch.device(config.device).type == "cuda"
    return ReplayedUpdate() if on_gpu and alone and config.replay and not config.compile else update
