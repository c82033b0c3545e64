"""The latent diffusion, which gives the prior when there is no high-resolution image to extract it from."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmsr.models.diffmsr.blocks import LEAK, Extractor
from diffmsr.models.diffmsr.config import DiffMSRConfig
from diffmsr.models.diffmsr.live import LiveExtractor


class Denoiser(nn.Module):
    """(Z_t, condition, t) to an estimate of Z_0, by linear layers on their concatenation (equation 9, but for its noise)."""

    def __init__(self, latent: int, condition: int, layers: int, steps: int, live: bool) -> None:
        super().__init__()
        self.steps, self.live = steps, live
        widths = [condition + 1 + latent] + [latent] * layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, z: Tensor, condition: Tensor, t: int) -> Tensor:
        time = torch.full_like(z[:, :1], t / self.steps)
        x = torch.cat([condition, time, z], dim=-1)
        for i, layer in enumerate(self.layers, start=1):
            x = layer(x)
            # A standardised Z is as often below zero as above, which the last leaky ReLU would hardly let through.
            x = x if self.live and i == len(self.layers) else F.leaky_relu(x, LEAK)
        return x


class LatentDiffusion(nn.Module):
    """T steps from noise to the prior. CE conditions them on the low-resolution target, unless `condition` is off.

    The network predicts Z_0 rather than the noise, and the reverse steps add no noise. With T = 4 the chain is trained end
    to end, through all its steps.
    """

    alpha: Tensor
    alpha_bar: Tensor

    def __init__(self, config: DiffMSRConfig) -> None:
        super().__init__()
        self.steps, self.conditioned = config.steps, config.condition
        if config.condition:
            extractor = LiveExtractor if config.live else Extractor
            self.condition = extractor(2, config.extractor_width, config.extractor_blocks, config.latent)
        known = config.latent if config.condition else 0
        self.denoiser = Denoiser(config.latent, known, config.denoiser_layers, config.steps, config.live)
        beta = torch.linspace(0.1**0.5, 0.99**0.5, config.steps) ** 2
        self.register_buffer("alpha", 1 - beta, persistent=False)
        self.register_buffer("alpha_bar", torch.cumprod(1 - beta, dim=0), persistent=False)

    def diffuse(self, z: Tensor, noise: Tensor) -> Tensor:
        """Z to Z_T, equation 6."""
        return self.alpha_bar[-1].sqrt() * z + (1 - self.alpha_bar[-1]).sqrt() * noise

    def forward(self, low: Tensor, z: Tensor) -> Tensor:
        """The prior (b, latent), from the low-resolution target (b, h, w, 2) and Z_T (b, latent)."""
        condition = self.condition(low) if self.conditioned else low.new_empty(len(low), 0)
        for t in range(self.steps, 1, -1):
            z = self.reverse_mean(z, self.denoiser(z, condition, t), t)
        prior: Tensor = self.denoiser(z, condition, 1)
        return prior

    def reverse_mean(self, z_t: Tensor, z_0: Tensor, t: int) -> Tensor:
        """Mean of q(Z_{t-1} | Z_t, Z_0), equations 7 and 8 with the noise expressed by Z_0."""
        alpha, bar, bar_before = self.alpha[t - 1], self.alpha_bar[t - 1], self.alpha_bar[t - 2]
        return (bar_before.sqrt() * (1 - alpha) * z_0 + alpha.sqrt() * (1 - bar_before) * z_t) / (1 - bar)
