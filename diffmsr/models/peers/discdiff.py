"""DisC-Diff: a disentangled conditional diffusion model in the space of pixels (Mao et al. 2023).

Y. Mao, L. Jiang, X. Chen, C. Li: "DisC-Diff: Disentangled conditional diffusion model for multi-contrast MRI
super-resolution", MICCAI 2023, arXiv:2303.13933.

From the paper: a diffusion model that predicts the noise (Ho et al. 2020), conditioned on the low-resolution target and the
reference; a multi-stream U-Net that disentangles what the two conditions share from what each has alone, by a
disentanglement loss, and fuses the streams by squeeze and excitation; a Charbonnier loss of the estimated image beside the
loss of the noise.

Here: 0.5 M parameters (Table 1 lists 86.1 M) on images folded to low resolution. The diffusion is of the detail beside the
zero-filled target, in units of DETAIL: every network here adds detail, and a diffusion of whole images would spend a small
budget on learning the zero-filled image. Sampling is deterministic from Z_T (DDIM, Song et al. 2021) in any number of steps,
without training again. Left out: the curriculum, which orders the training images by difficulty.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmsr.images import zero_filled_channels
from diffmsr.models.peers.parts import ChannelAttention, ComparedModel, PeerConfig, conv, silent_conv
from diffmsr.models.protocol import Batch, Losses, Objective
from diffmsr.models.registry import register_model

DETAIL = 0.05
"""Usual size of the detail, as a share of the slice's maximum: the diffusion's unit."""
LARGEST = 8.0
"""Detail is clipped to so many units during sampling, as estimates from much noise are far off."""
CHARBONNIER, DISENTANGLEMENT = 1.0, 0.01
"""Weights of the two losses beside that of the noise."""
EARLIEST = 0.01
"""Smallest and, from 1, largest time: at exactly 0 and 1 either noise or image is missing."""


@dataclass(frozen=True)
class DisCDiffConfig(PeerConfig):
    """Width of the U-Net at its three resolutions, and the number of steps of sampling."""

    channels: tuple[int, int, int] = (32, 48, 64)
    steps: int = 8


def signal_share(time: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha bar) and sqrt(1 - alpha bar) at times from 0 to 1 (b,), as (b, 1, 1, 1): the cosine schedule (Nichol and
    Dhariwal 2021)."""
    angle = (math.pi / 2 * time)[:, None, None, None]
    return angle.cos(), angle.sin()


class TimedBlock(nn.Module):
    """x + conv(SiLU(conv(SiLU(x)) + linear(time))): (b, c, h, w) and an embedding of the time (b, e)."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.inward, self.outward = conv(channels, channels), conv(channels, channels)
        self.time = nn.Linear(embedding, channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.inward(F.silu(x)) + self.time(time)[:, :, None, None]
        out: Tensor = x + self.outward(F.silu(y))
        return out


class ConditionStream(nn.Module):
    """A condition (b, inputs, h, w) to its shared and its own representation, each (b, c, h, w)."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.head = conv(inputs, channels)
        self.shared, self.own = (
            nn.Sequential(nn.SiLU(), conv(channels, channels), nn.SiLU(), conv(channels, channels)) for _ in range(2)
        )

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        x = self.head(condition)
        return self.shared(x), self.own(x)


class NoiseUNet(nn.Module):
    """Noisy detail (b, f, h, w), the fused conditions (b, c, h, w) and times (b,) to the noise (b, f, h, w)."""

    def __init__(self, folded: int, channels: tuple[int, int, int]) -> None:
        super().__init__()
        one, two, three = channels
        self.embedding = nn.Sequential(nn.Linear(2 * len(FREQUENCIES), 64), nn.SiLU(), nn.Linear(64, 64))
        self.head = conv(folded + one, one)
        self.blocks_down = nn.ModuleList(TimedBlock(c, 64) for c in channels)
        self.down = nn.ModuleList([conv(one, two, stride=2), conv(two, three, stride=2)])
        self.up = nn.ModuleList([conv(two + one, one), conv(three + two, two)])
        self.blocks_up = nn.ModuleList([TimedBlock(one, 64), TimedBlock(two, 64)])
        self.tail = silent_conv(one, folded)

    def forward(self, noisy: Tensor, condition: Tensor, time: Tensor) -> Tensor:
        angles = time[:, None] * torch.tensor(FREQUENCIES, device=time.device)
        embedded = self.embedding(torch.cat([angles.sin(), angles.cos()], dim=1))
        x = self.blocks_down[0](self.head(torch.cat([noisy, condition], dim=1)), embedded)
        kept = []
        for down, block in zip(self.down, list(self.blocks_down)[1:], strict=True):
            kept.append(x)
            x = block(down(x), embedded)
        for i in (1, 0):
            enlarged = F.interpolate(x, size=kept[i].shape[-2:])
            x = self.blocks_up[i](self.up[i](torch.cat([enlarged, kept[i]], dim=1)), embedded)
        # deviation * noisy is the best guess that is linear in the noisy image. What is missing is signal * (signal * noise -
        # deviation * image), whose bracket has unit variance at all times: that the layers estimate. An estimated noise
        # whose error does not shrink with the signal would make the estimated image useless at late times.
        signal, deviation = signal_share(time)
        noise: Tensor = deviation * noisy + signal * self.tail(F.silu(x))
        return noise


FREQUENCIES = tuple(math.pi * 2.0**i for i in range(6))
"""Of the embedding of a time from 0 to 1."""


@register_model(DisCDiffConfig("discdiff"))
class DisCDiff(ComparedModel):
    """Training sees one time per slice; sampling goes through `steps` of them. Images inside are folded to low resolution."""

    multiple = 4
    config: DisCDiffConfig

    def __init__(self, config: DisCDiffConfig) -> None:
        super().__init__(config)
        if config.steps < 1:
            raise ValueError("steps must be at least 1")
        folded, c = 2 * config.scale**2, config.channels[0]
        self.target, self.reference = ConditionStream(2 + folded, c), ConditionStream(folded, c)
        self.fuse = nn.Sequential(conv(4 * c, c), ChannelAttention(c))
        self.denoiser = NoiseUNet(folded, config.channels)

    def noise_shape(self, rows: int, columns: int) -> tuple[int, ...]:
        """That of the image."""
        return (2, self.config.scale * rows, self.config.scale * columns)

    def streams(self, low: Tensor, reference: Tensor, skip: Tensor) -> list[Tensor]:
        """Shared and own representation of the target, then of the reference, each (b, c, h, w)."""
        guide = F.pixel_unshuffle(reference, self.config.scale)
        return [*self.target(self.folded_target(low, skip)), *self.reference(guide)]

    def forward(self, low: Tensor, reference: Tensor, noise: Tensor, skip: Tensor | None = None) -> Tensor:
        """The super-resolved target (b, 2, s h, s w), by `steps` steps from `noise` (b, 2, s h, s w)."""
        s = self.config.scale
        skip = zero_filled_channels(low, s) if skip is None else skip
        h, w = skip.shape[-2:]
        low, reference, filled, noise = self.padded(low, reference, skip, noise)
        condition = self.fuse(torch.cat(self.streams(low, reference, filled), dim=1))
        detail = self.sampled(condition, F.pixel_unshuffle(noise, s))
        return F.pixel_shuffle(detail, s)[..., :h, :w] + skip

    def sampled(self, condition: Tensor, noise: Tensor) -> Tensor:
        """The detail (b, f, h, w): at each time, the noise is estimated and so the image, which is then given the smaller
        noise of the next time; the last estimate stays."""
        times = torch.linspace(1 - EARLIEST, 0, self.config.steps + 1, device=noise.device)
        x = noise
        for now, after in pairwise(times):
            signal, deviation = signal_share(now.expand(len(x)))
            estimate = self.denoiser(x, condition, now.expand(len(x)))
            clean = estimated_image(x, estimate, signal, deviation).clamp(-LARGEST, LARGEST)
            signal_after, deviation_after = signal_share(after.expand(len(x)))
            x = signal_after * clean + deviation_after * (x - signal * clean) / deviation
        return DETAIL * x

    def loss(self, batch: Batch, stage: int, objective: Objective) -> Losses:
        """Of the noise, squared; of the estimated image, Charbonnier; and of the disentanglement. L_img and L_dc are not
        used: no image is reconstructed in training."""
        s = self.config.scale
        detail = F.pixel_unshuffle(batch.truth - batch.skip, s) / DETAIL
        noise = F.pixel_unshuffle(batch.noise(self.noise_shape(*batch.low.shape[-2:])), s)
        time = EARLIEST + (1 - 2 * EARLIEST) * batch.uniform()
        signal, deviation = signal_share(time)
        streams = self.streams(batch.low, batch.reference, batch.skip)
        noisy = signal * detail + deviation * noise
        estimate = self.denoiser(noisy, self.fuse(torch.cat(streams, dim=1)), time).float()
        error = estimated_image(noisy, estimate, signal, deviation) - detail
        return {
            "noise": F.mse_loss(estimate, noise),
            "charbonnier": CHARBONNIER * (error.square() + 1e-6).sqrt().mean(),
            "disentanglement": DISENTANGLEMENT * disentanglement([of.float() for of in streams]),
        }


def estimated_image(noisy: Tensor, noise: Tensor, signal: Tensor, deviation: Tensor) -> Tensor:
    """The image that a noisy one, signal * image + deviation * noise, holds by an estimate of its noise."""
    return (noisy - deviation * noise) / signal


def disentanglement(streams: list[Tensor]) -> Tensor:
    """Small where the conditions' shared representations (first and third) are alike and their own (second and fourth)
    differ: mean squared distance of the former as a share of the sum of both distances. The idea is the paper's; a share, which is
    bounded, is this project's form of it."""
    shared, own = (F.mse_loss(streams[i], streams[i + 2]) for i in (0, 1))
    return shared / (shared + own + 1e-6)
