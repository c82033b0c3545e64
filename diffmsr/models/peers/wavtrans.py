"""WavTrans: wavelets and a cross-attention transformer (Li et al. 2022).

G. Li, J. Lyu, C. Wang, Q. Dou, J. Qin: "WavTrans: Synergizing wavelet and cross-attention transformer for multi-contrast MRI
super-resolution", MICCAI 2022, doi:10.1007/978-3-031-16446-0_44.

From the paper: a one-level wavelet transform of the reference separates its approximation, which holds the low frequencies,
from its details. A residual cross-attention Swin transformer relates the target to the approximation over long distances. A
multi-residual fusion module brings the details of the reference to the enlarged target. Here: four blocks of width 48 with
windows of 8 at low resolution, 0.3 M parameters (Table 1 lists 2.1 M), and the inverse transform makes the image.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from diffmsr.models.peers.parts import PeerConfig, Regressor, SwinBlock, conv, residual_blocks, silent_conv
from diffmsr.models.registry import register_model


@dataclass(frozen=True)
class WavTransConfig(PeerConfig):
    """Width at low resolution and of the wavelet coefficients' features, and the transformer's size."""

    channels: int = 48
    fine_channels: int = 24
    blocks: int = 4
    heads: int = 4
    window: int = 8
    fusions: int = 2
    """Residual fusions of target and details."""


def haar(image: Tensor) -> Tensor:
    """One level of the orthonormal Haar transform: (b, c, 2 h, 2 w) to (b, 4 c, h, w), approximation first, then details
    along rows, along columns and along both."""
    a, b, c, d = rearrange(image, "b c (h p) (w q) -> (p q) b c h w", p=2, q=2)
    return torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], dim=1) / 2


def inverse_haar(coefficients: Tensor) -> Tensor:
    """The image (b, c, 2 h, 2 w) of its coefficients (b, 4 c, h, w)."""
    low, x, y, xy = coefficients.chunk(4, dim=1)
    pixels = torch.stack([low + x + y + xy, low - x + y - xy, low + x - y - xy, low - x - y + xy]) / 2
    return rearrange(pixels, "(p q) b c h w -> b c (h p) (w q)", p=2, q=2)


class Fusion(nn.Module):
    """target + conv(ReLU(conv(target, details))), then a residual block: (b, c, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.join = nn.Sequential(conv(2 * channels, channels), nn.ReLU(), conv(channels, channels))
        self.refine = residual_blocks(channels, 1)

    def forward(self, target: Tensor, details: Tensor) -> Tensor:
        out: Tensor = self.refine(target + self.join(torch.cat([target, details], dim=1)))
        return out


@register_model(WavTransConfig("wavtrans"))
class WavTrans(Regressor):
    """Low resolution: the transformer. Twice of it, where the wavelet coefficients are: the fusion."""

    multiple = 8

    def __init__(self, config: WavTransConfig) -> None:
        super().__init__(config)
        if config.window != self.multiple:
            raise ValueError(f"window = {config.window}: it must be {self.multiple}")
        c, fine = config.channels, config.fine_channels
        self.head = conv(2 + 2 * config.scale**2, c)
        self.approximation = nn.Sequential(conv(2, fine), nn.ReLU(), conv(fine, c, stride=2))
        self.details = nn.Sequential(conv(6, fine), residual_blocks(fine, 1))
        self.blocks = nn.ModuleList(
            SwinBlock(c, config.heads, config.window, shifted=i % 2 == 1) for i in range(config.blocks)
        )
        self.body = conv(c, c)
        self.enlarge = nn.Sequential(conv(c, 4 * fine), nn.PixelShuffle(2))
        self.fusions = nn.ModuleList(Fusion(fine) for _ in range(config.fusions))
        self.tail = silent_conv(fine, 8)

    def detail(self, low: Tensor, reference: Tensor, skip: Tensor) -> Tensor:
        """Coefficients of what is missing, transformed back."""
        approximation, *details = haar(reference).chunk(4, dim=1)
        guide = self.approximation(approximation / 2)  # of the unit of the image
        first = x = self.head(self.folded_target(low, skip))
        for block in self.blocks:
            x = block(x, guide)
        x = self.enlarge(first + self.body(x))
        fine = self.details(torch.cat(details, dim=1))
        for fusion in self.fusions:
            x = fusion(x, fine)
        return inverse_haar(self.tail(F.relu(x)))
