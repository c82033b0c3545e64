"""MINet: a multi-stage integration network (Feng et al. 2021).

C.-M. Feng, H. Fu, S. Yuan, Y. Xu: "Multi-contrast MRI super-resolution via a multi-stage integration network", MICCAI 2021,
arXiv:2105.08949.

From the paper: a branch of convolutional stages per contrast, each of which learns a hierarchical representation; the
reference's features join the target's at every stage. The multi-stage integration module then compares each stage's
representation, of either contrast, with all the others, and adds these in terms of their similarity; an attention over
channels and space weighs the result. Here: three stages of two blocks at low resolution, 32 channels, 0.4 M parameters
(Table 1 lists 11.9 M, and 867 GFLOP, which are spent at high resolution). Left out: the loss of the reference's own
reconstruction, because the reference is at full resolution here.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from diffmsr.models.peers.parts import ChannelAttention, PeerConfig, Regressor, conv, silent_conv
from diffmsr.models.registry import register_model


@dataclass(frozen=True)
class MINetConfig(PeerConfig):
    """Width, stages of each branch, and blocks in each stage."""

    channels: int = 32
    stages_per_branch: int = 3
    blocks: int = 2


class AttentiveBlock(nn.Module):
    """x + channel attention(conv(ReLU(conv(x)))), the block of RCAN (Zhang et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(channels, channels), nn.ReLU(), conv(channels, channels), ChannelAttention(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Integration(nn.Module):
    """G (b, m, c, h, w), the representations of m stages, to (b, m, c, h, w):

    d = softmax_j(sqrt(c) mean(G_i G_j)), G_i + a sum_j d_ij G_j, with `a` learned from zero. The mean, where the paper has
    the sum over pixels, keeps the similarity independent of the image's size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.full((1,), 0.1))

    def forward(self, stages: Tensor) -> Tensor:
        flat = rearrange(stages, "b m c h w -> b m (c h w)")
        similarity = flat @ flat.transpose(1, 2) / (flat.shape[2] / stages.shape[2] ** 0.5)
        mixed = similarity.softmax(dim=-1) @ flat
        integrated: Tensor = stages + self.share * mixed.view_as(stages)
        return integrated


class ChannelSpatialAttention(nn.Module):
    """x + b x sigmoid(conv3d(x)), a convolution across channels and space of a map (b, c, h, w), with b learned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 3, padding=1)
        self.share = nn.Parameter(torch.full((1,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.conv(x[:, None])[:, 0])
        return x + self.share * x * weights


@register_model(MINetConfig("minet"))
class MINet(Regressor):
    """Both contrasts folded to low resolution: the target with its zero-filled image, the reference by pixel unshuffle."""

    def __init__(self, config: MINetConfig) -> None:
        super().__init__(config)
        c, folded = config.channels, 2 * config.scale**2
        n = config.stages_per_branch

        def stages() -> nn.ModuleList:
            return nn.ModuleList(nn.Sequential(*(AttentiveBlock(c) for _ in range(config.blocks))) for _ in range(n))

        self.head_target, self.head_reference = conv(2 + folded, c), conv(folded, c)
        self.target, self.reference = stages(), stages()
        self.joins = nn.ModuleList(conv(2 * c, c) for _ in range(n))
        self.integration, self.attention = Integration(), ChannelSpatialAttention()
        self.fuse = conv(2 * n * c, c)
        self.tail = silent_conv(c, folded)

    def detail(self, low: Tensor, reference: Tensor, skip: Tensor) -> Tensor:
        """Every stage's representation of both contrasts, integrated, and the last one of the target."""
        first = target = self.head_target(self.folded_target(low, skip))
        guide = self.head_reference(F.pixel_unshuffle(reference, self.config.scale))
        found = []
        for of_target, of_reference, join in zip(self.target, self.reference, self.joins, strict=True):
            guide = of_reference(guide)
            target = of_target(join(torch.cat([target, guide], dim=1)))
            found += [guide, target]
        integrated = self.integration(torch.stack(found, dim=1))
        fused = self.fuse(rearrange(integrated, "b m c h w -> b (m c) h w"))
        out: Tensor = self.tail(first + fused + self.attention(target))
        return F.pixel_shuffle(out, self.config.scale)
