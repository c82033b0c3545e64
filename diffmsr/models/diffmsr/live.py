"""Extractors whose latent tells slices apart from the start.

Under PyTorch's default initialisation the variation from slice to slice shrinks layer by layer, from 30 % at the input to
0.3 % in Z before training begins, because each layer adds the same bias to every slice and averaging removes the rest. A
prior that is the same for every slice can teach nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmsr.models.diffmsr.blocks import LEAK, Extractor

MOMENTUM = 0.01
"""How fast the running statistics follow the batches."""


class LiveExtractor(Extractor):
    """As `Extractor`, but with He initialisation and no bias; pooled by mean and standard deviation; and each element of
    the latent has mean 0 and standard deviation 1 over the slices seen."""

    def __init__(self, inputs: int, width: int, blocks: int, latent: int) -> None:
        super().__init__(inputs, width, blocks, latent)
        self.linears = nn.Sequential(nn.Linear(2 * latent, latent), nn.LeakyReLU(LEAK), nn.Linear(latent, latent))
        self.standardise = Standardise(latent)
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight, a=LEAK)
                part.bias = None

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.head(x), LEAK)
        for block in self.blocks:
            x = x + block(x)
        x = self.widen(x).float()
        pooled = torch.cat([x.mean(dim=(1, 2)), x.std(dim=(1, 2))], dim=-1)
        latent: Tensor = self.standardise(self.linears(pooled.to(self.head.weight.dtype)))
        return latent


class Standardise(nn.Module):
    """Elements of (b, latent) by running mean and variance, which learn while gradients are on and the network trains."""

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("variance", torch.ones(latent))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled() and z.requires_grad:
            self._learn(z.detach().float())
        return (z - self.mean) / (self.variance + 1e-6).sqrt()

    def _learn(self, z: Tensor) -> None:
        """The first batches count in full; the variance is about the running mean, so a batch of one slice tells too."""
        self.batches += 1
        # No value is asked for here: on a GPU that would wait for all the work before it.
        momentum = (1 / self.batches).clamp_min(MOMENTUM)
        away = z - torch.where(self.batches > 1, self.mean, z.mean(dim=0))
        self.mean.lerp_(z.mean(dim=0), momentum)
        self.variance.lerp_(away.square().mean(dim=0).clamp_min(1e-6), momentum)
