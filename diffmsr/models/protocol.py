"""What a network offers to training, evaluation, benchmark, export and inference. None of them knows a network by name.

Images are (b, 2, h, w), real and imaginary part; a magnitude image is (magnitude, 0).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from diffmsr.losses import DC_WEIGHT, data_consistency_loss, image_loss

Losses = dict[str, Tensor]
"""Terms of a training objective by name, weighted. Training minimises their sum, in this order."""


@dataclass(frozen=True)
class ModelConfig:
    """The fields that every network's configuration has. A subclass adds those that decide the shape of its network."""

    name: str
    """The preset's name."""
    scale: int = 4
    """Super-resolution factor in each in-plane direction."""
    acquisition: bool = False
    """Whether the network gets to know how the target was acquired: then `forward` takes those facts as its last argument."""

    peer: ClassVar[bool] = False
    """Whether the network is here to be compared only. The node does not run its weights."""
    stage_two_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that change nothing before stage two. Ablations that differ only in these share their stage one."""

    @property
    def stages(self) -> int:
        """Number of training stages, 1 or 2."""
        return 1

    @property
    def smallest_side(self) -> int:
        """Smallest height and width of an image that the network takes, in low-resolution pixels."""
        return 1

    def variants(self) -> Mapping[str, "ModelConfig"]:
        """Configurations whose cost `diffmsr bench` also counts, by a short description."""
        return {}


@dataclass(frozen=True)
class Objective:
    """The options of the training configuration that a loss depends on."""

    dc_weight: float = DC_WEIGHT
    """lambda_2 of equation 5."""
    joint: bool = True
    """Whether stage two trains the whole network by all losses, or only what stage one left out."""


@dataclass(frozen=True)
class Batch:
    """Training images, and the seed of each slice's noise."""

    low: Tensor
    """The low-resolution target (b, 2, h, w)."""
    truth: Tensor
    """The target (b, 2, s h, s w)."""
    reference: Tensor
    """The reference (b, 2, s h, s w)."""
    skip: Tensor
    """The zero-filled target (b, 2, s h, s w). A patch is cut from its image's: its own k-space would give another."""
    seeds: Sequence[int]
    facts: Tensor
    """What is known of each target's acquisition (b, FEATURES), see `acquisition/features.py`."""

    def noise(self, shape: Sequence[int]) -> Tensor:
        """Standard normal noise (b, *shape), on the device of the images."""
        return standard_normal(self.seeds, shape).to(self.low.device)

    def uniform(self) -> Tensor:
        """A number in [0, 1) per slice (b,), which does not depend on its `noise`."""
        drawn = [torch.rand(1, generator=torch.Generator().manual_seed((seed + 2**62) % 2**63)) for seed in self.seeds]
        return torch.cat(drawn).to(self.low.device)

    def to(self, device: torch.device | str) -> Self:
        """The batch on a device."""
        low, truth, reference, skip, facts = (tensor.to(device) for tensor in (*self.images, self.facts))
        return replace(self, low=low, truth=truth, reference=reference, skip=skip, facts=facts)

    @property
    def images(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.low, self.truth, self.reference, self.skip


class Model(nn.Module, ABC):
    """A super-resolution network. One with a single training stage needs no more than `forward`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, low: Tensor, reference: Tensor, noise: Tensor, skip: Tensor | None = None) -> Tensor:
        """The super-resolved target (b, 2, s h, s w).

        `low` is the low-resolution target (b, 2, h, w), `reference` is (b, 2, s h, s w), `noise` is (b, *noise_shape).
        `skip` is the zero-filled target; without it the network makes it from `low`. Raises ValueError for a size that
        the network cannot take.
        """

    def noise_shape(self, rows: int, columns: int) -> tuple[int, ...]:
        """Shape of the noise per slice of rows x columns low-resolution pixels; (0,) for a network without noise."""
        return (0,)

    def loss(self, batch: Batch, stage: int, objective: Objective) -> Losses:
        """The terms that a stage minimises. By default those of equation 5, on what `prediction` gives."""
        return reconstruction_losses(self.prediction(batch, stage), batch, objective)

    def prediction(self, batch: Batch, stage: int) -> Tensor:
        """The super-resolved target (b, 2, s h, s w) as the network gives it in this stage. Validation judges it."""
        noise = batch.noise(self.noise_shape(*batch.low.shape[-2:]))
        told = (batch.facts,) if self.config.acquisition else ()
        image: Tensor = self(batch.low, batch.reference, noise, batch.skip, *told)
        return image

    def begin_stage(self, stage: int, average: Self | None, objective: Objective) -> None:
        """Require gradients of what the stage trains, and take over from `average`, the averaged weights of the stage
        before, what it keeps fixed. `average` is None at the very beginning."""
        self.requires_grad_(True)

    def compile_for_training(self) -> None:
        """Use torch.compile for what dominates a training step."""
        self.compile()

    def optimised(self, dtype: torch.dtype) -> nn.Module:
        """The network for inference in this arithmetic: the same arguments but `skip`, the same image.

        A network that is told of acquisitions takes the facts after the noise."""
        return in_precision(self, dtype)

    @property
    def training_only(self) -> Sequence[nn.Module]:
        """Parts that inference does not need."""
        return ()

    def comparisons(self) -> Mapping[str, "Model"]:
        """Other ways to run the same network, which `diffmsr bench` times beside it. The first is how such a network is
        commonly written."""
        return {}


def reconstruction_losses(prediction: Tensor, batch: Batch, objective: Objective) -> Losses:
    """L_img + lambda_2 L_dc, equation 5 with lambda_1 = 1, always in float32. L_dc is left out at weight 0."""
    prediction = prediction.float()
    with torch.autocast(prediction.device.type, enabled=False):
        losses = {"img": image_loss(prediction, batch.truth)}
        if objective.dc_weight:
            losses["dc"] = objective.dc_weight * data_consistency_loss(prediction, batch.truth, batch.low)
    return losses


def standard_normal(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal noise (n, *shape) with a generator per seed, on the CPU, so that every device gets the same."""
    drawn = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed % 2**63)) for seed in seeds]
    return torch.stack(drawn)


def in_precision(model: Model, dtype: torch.dtype) -> nn.Module:
    """The network as it is, in this arithmetic."""
    return _Autocast(model, dtype)


class _Autocast(nn.Module):
    """A network in an arithmetic, without the argument `skip`. Its image is float32."""

    def __init__(self, network: Model, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, low: Tensor, reference: Tensor, noise: Tensor, *facts: Tensor) -> Tensor:
        reduced = torch.autocast(low.device.type, self.dtype) if self.dtype is not torch.float32 else nullcontext()
        with reduced:
            image: Tensor = self.network(low, reference, noise, None, *facts)
        return image.float()
