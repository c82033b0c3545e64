"""What the networks of Table 1 have in common: how they meet the zero-filled target, and blocks that several of them use.

Feature maps are (b, c, h, w). `s` is the scale, 4.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from diffmsr.images import zero_filled_channels
from diffmsr.models.protocol import Model, ModelConfig


@dataclass(frozen=True)
class PeerConfig(ModelConfig):
    """The configuration of a network that is here to be compared."""

    peer: ClassVar[bool] = True


class ComparedModel(Model):
    """A network that is here to be compared, and adds detail to the zero-filled target, as the baseline and DiffMSR do."""

    multiple: ClassVar[int] = 1
    """What the sides of its images have to divide by, in low-resolution pixels. Other images are continued by reflection,
    and the result is cropped."""

    def padded(self, low: Tensor, *high: Tensor) -> list[Tensor]:
        """The images with sides that divide by `multiple`. Raises ValueError for an image too small to be reflected."""
        h, w = low.shape[-2:]
        s, down, right = self.config.scale, -h % self.multiple, -w % self.multiple
        if down >= h or right >= w:
            raise ValueError(
                f"an image of {h} x {w} pixels is too small: its sides are continued to multiples of {self.multiple}"
            )
        return [
            F.pad(low, [0, right, 0, down], mode="reflect"),
            *(F.pad(image, [0, s * right, 0, s * down], mode="reflect") for image in high),
        ]

    def folded_target(self, low: Tensor, skip: Tensor) -> Tensor:
        """All that is known of the target, at low resolution: (b, 2 + 2 s s, h, w)."""
        return torch.cat([low, F.pixel_unshuffle(skip, self.config.scale)], dim=1)


class Regressor(ComparedModel):
    """A peer without noise: its detail is a function of the images."""

    @abstractmethod
    def detail(self, low: Tensor, reference: Tensor, skip: Tensor) -> Tensor:
        """What is missing in the zero-filled target `skip` (b, 2, s h, s w); of the same shape."""

    def forward(self, low: Tensor, reference: Tensor, noise: Tensor, skip: Tensor | None = None) -> Tensor:
        """The super-resolved target (b, 2, s h, s w). `noise` is empty."""
        skip = zero_filled_channels(low, self.config.scale) if skip is None else skip
        detail = self.detail(*self.padded(low, reference, skip))
        return detail[..., : skip.shape[-2], : skip.shape[-1]] + skip


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size, or divides it by its stride."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)


def silent_conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution that gives zero before training: an untrained network then gives the zero-filled image, not noise."""
    layer = conv(inputs, outputs)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResidualBlock(nn.Module):
    """x + conv(ReLU(conv(x))), as in EDSR."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), nn.ReLU(), conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def residual_blocks(channels: int, number: int) -> nn.Sequential:
    """Residual blocks one after the other."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(number)))


class ChannelAttention(nn.Module):
    """x * sigmoid(MLP(mean over space of x)): squeeze and excitation."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze, self.excite = conv(channels, channels // reduction, 1), conv(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(mean))))


class SwinBlock(nn.Module):
    """Attention within windows, then a feed-forward network, each on a normalised map and added to x (b, c, h, w).

    Keys and values come from `source`, of the same shape: from x itself in self-attention, from the reference in
    cross-attention. With `shifted`, the windows lie half a window further along both axes (Swin transformer, Liu et al.
    2021); a window that crosses the edge of the image joins its opposite sides, which are air.
    """

    def __init__(self, channels: int, heads: int, window: int, shifted: bool, expansion: int = 2) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, window // 2 if shifted else 0
        self.norm_query, self.norm_source, self.norm_out = (nn.LayerNorm(channels) for _ in range(3))
        self.query, self.key_value = nn.Linear(channels, channels), nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros(heads, window**2, window**2))
        self.feed_forward = nn.Sequential(
            nn.Linear(channels, expansion * channels), nn.GELU(), nn.Linear(expansion * channels, channels)
        )

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        queries, sources = self._windows(x), self._windows(source)
        q = rearrange(self.query(self.norm_query(queries)), "n t (a d) -> n a t d", a=self.heads)
        k, v = rearrange(self.key_value(self.norm_source(sources)), "n t (two a d) -> two n a t d", two=2, a=self.heads)
        weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + self.bias
        tokens = queries + self.out(rearrange(weights.softmax(dim=-1) @ v, "n a t d -> n t (a d)"))
        tokens = tokens + self.feed_forward(self.norm_out(tokens))
        side = self.window
        out = rearrange(tokens, "(b y x) (i j) c -> b c (y i) (x j)", y=h // side, x=w // side, i=side, j=side)
        return torch.roll(out, (self.shift, self.shift), dims=(2, 3)) if self.shift else out

    def _windows(self, x: Tensor) -> Tensor:
        """(windows, tokens, c)."""
        x = torch.roll(x, (-self.shift, -self.shift), dims=(2, 3)) if self.shift else x
        return rearrange(x, "b c (y i) (x j) -> (b y x) (i j) c", i=self.window, j=self.window)


def neighbourhoods(x: Tensor, side: int) -> Tensor:
    """The side x side pixels around each pixel, of norm 1: (b, c, h, w) to (b, c side side, h, w). Outside is zero."""
    h, w = x.shape[-2:]
    around = rearrange(F.unfold(x, side, padding=side // 2), "b c (h w) -> b c h w", h=h, w=w)
    return F.normalize(around, dim=1)


def take(cells: Tensor, place: Tensor) -> Tensor:
    """The pixels of `cells` (b, c, h, w) at `place` (b, h, w), which holds y * w + x: (b, c, h, w)."""
    h, w = place.shape[-2:]
    flat = rearrange(cells, "b c h w -> b c (h w)")
    index = rearrange(place, "b h w -> b 1 (h w)").expand(-1, flat.shape[1], -1)
    return rearrange(flat.gather(2, index), "b c (h w) -> b c h w", h=h, w=w)
