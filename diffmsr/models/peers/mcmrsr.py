"""McMRSR: transformer-empowered multi-scale contextual matching and aggregation (Li et al. 2022).

G. Li, J. Lv, Y. Tian, Q. Dou, C. Wang, C. Xu, J. Qin: "Transformer-empowered multi-scale contextual matching and aggregation
for multi-contrast MRI super-resolution", CVPR 2022, arXiv:2203.13963.

From the paper: groups of Swin transformer blocks find long-range dependencies in target and reference; for every target
pixel the corresponding context is found in the reference, and its features are taken at several scales; these are
aggregated gradually and interactively, from the coarsest scale to the finest. The loss has a term of data consistency in
k-space, as the harness has for every method. Here: width 48, two groups of two blocks per contrast, 0.4 M parameters
(Table 1 lists 3.5 M). Target and reference are registered, so a context is searched for near its own place only.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from diffmsr.models.peers.parts import PeerConfig, Regressor, SwinBlock, conv, residual_blocks, silent_conv, take
from diffmsr.models.registry import register_model


@dataclass(frozen=True)
class McMRSRConfig(PeerConfig):
    """Width at low, double and full resolution, and the transformer's size."""

    channels: tuple[int, int, int] = (48, 24, 12)
    blocks: int = 2
    """Swin blocks in a group."""
    heads: int = 4
    window: int = 8
    reach: int = 2
    """How far a context is searched for along each axis, in low-resolution pixels."""


class SwinGroup(nn.Module):
    """x + conv(Swin blocks(x)), with self-attention: (b, c, h, w)."""

    def __init__(self, config: McMRSRConfig) -> None:
        super().__init__()
        c = config.channels[0]
        self.blocks = nn.ModuleList(
            SwinBlock(c, config.heads, config.window, shifted=i % 2 == 1) for i in range(config.blocks)
        )
        self.out = conv(c, c)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for block in self.blocks:
            y = block(y, y)
        out: Tensor = x + self.out(y)
        return out


def contexts(query: Tensor, key: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Where each pixel of `query` (b, c, h, w) is most similar to a pixel of `key` at most `reach` away along each axis:
    the place (b, h, w) as y * w + x, and the cosine similarity there (b, 1, h, w)."""
    h, w = query.shape[-2:]
    side = 2 * reach + 1
    around = F.unfold(F.pad(F.normalize(key, dim=1), [reach] * 4, mode="replicate"), side)
    around = rearrange(around, "b (c n) (h w) -> b n c h w", n=side**2, h=h)
    similarity = (around * F.normalize(query, dim=1)[:, None]).sum(dim=2)
    best = similarity.argmax(dim=1, keepdim=True)
    dy, dx = best[:, 0] // side - reach, best[:, 0] % side - reach
    y = (torch.arange(h, device=query.device)[:, None] + dy).clamp(0, h - 1)
    x = (torch.arange(w, device=query.device) + dx).clamp(0, w - 1)
    return y * w + x, similarity.gather(1, best)


class Aggregation(nn.Module):
    """Target (b, c, h, w) enlarged by 2 and joined with the matched reference (b, d, 2 h, 2 w) of its scale: each gates the
    other by a sigmoid of both, then residual blocks; (b, d, 2 h, 2 w)."""

    def __init__(self, channels: int, guide: int) -> None:
        super().__init__()
        self.up = nn.Sequential(conv(channels, 4 * guide), nn.PixelShuffle(2))
        self.gates = conv(2 * guide, 2 * guide)
        self.join = nn.Sequential(conv(2 * guide, guide), nn.ReLU(), residual_blocks(guide, 1))

    def forward(self, target: Tensor, reference: Tensor) -> Tensor:
        both = torch.cat([self.up(target), reference], dim=1)
        joined: Tensor = self.join(both * torch.sigmoid(self.gates(both)))
        return joined


@register_model(McMRSRConfig("mcmrsr"))
class McMRSR(Regressor):
    """Features, matching at low resolution, aggregation at three scales."""

    multiple = 8
    config: McMRSRConfig

    def __init__(self, config: McMRSRConfig) -> None:
        super().__init__(config)
        if config.window != self.multiple:
            raise ValueError(f"window = {config.window}: it must be {self.multiple}")
        one, two, four = config.channels
        self.head = conv(2 + 2 * config.scale**2, one)
        self.reference_4 = nn.Sequential(conv(2, four), nn.ReLU())
        self.reference_2 = nn.Sequential(conv(four, two, stride=2), nn.ReLU())
        self.reference_1 = conv(two, one, stride=2)
        self.target_group, self.reference_group, self.joined_group = (SwinGroup(config) for _ in range(3))
        self.join = conv(2 * one, one)
        self.to_double, self.to_full = Aggregation(one, two), Aggregation(two, four)
        self.tail = silent_conv(four, 2)

    def detail(self, low: Tensor, reference: Tensor, skip: Tensor) -> Tensor:
        """From the target's features, and the reference's at the matched places of each scale."""
        guide_4 = self.reference_4(reference)
        guide_2 = self.reference_2(guide_4)
        guide_1 = self.reference_group(self.reference_1(guide_2))
        x = self.target_group(self.head(self.folded_target(low, skip)))
        place, similarity = contexts(x, guide_1, self.config.reach)

        def matched(guide: Tensor, factor: int) -> Tensor:
            return F.pixel_shuffle(take(F.pixel_unshuffle(guide, factor), place) * similarity, factor)

        x = self.joined_group(x + self.join(torch.cat([x, matched(guide_1, 1)], dim=1)))
        x = self.to_full(self.to_double(x, matched(guide_2, 2)), matched(guide_4, 4))
        out: Tensor = self.tail(x)
        return out
