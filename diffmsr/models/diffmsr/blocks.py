"""The blocks of DiffMSR. Feature maps are (b, h, w, c) everywhere.

With channels last, linear layers and layer norms need no copies, and a convolution sees the same memory as a
channels-last (b, c, h, w). On a CPU, this and bfloat16 halve the time of a training step.
"""

import copy
import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

OWN_SHARE = 0.75
"""Share of its attention that a query of cross-attention gives to its own place at the start of training. Target and
reference are registered. Attention that starts evenly passes on the window's mean of the reference only, and was found to
do the same after 21,000 training slices."""

LEAK = 0.1
"""Negative slope of every leaky ReLU."""

N = TypeVar("N", bound=nn.Module)


class Conv(nn.Conv2d):
    """A convolution of (b, h, w, c) that keeps the size, or divides it by its stride."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = rearrange(super().forward(rearrange(x, "b h w c -> b c h w")), "b c h w -> b h w c")
        return out


class SubpixelConv(nn.Module):
    """A convolution and a pixel shuffle by 2: (b, h, w, inputs) to (b, 2 h, 2 w, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, 4 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = rearrange(self.conv(x), "b h w (c p q) -> b (h p) (w q) c", p=2, q=2)
        return out


class LayerNorm(nn.Module):
    """Layer normalisation over channels, without bias: (b, h, w, c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight)


class Modulation(nn.Module):
    """L(Z) * N(F) + L(Z), equation 2: the prior scales and shifts every channel of a normalised feature map.

    The gain is 1 plus the linear layer's output, so that the prior starts as a perturbation; the layer's bias could
    express the 1 too. Without a prior (latent 0, z None) it is the layer norm alone.
    """

    def __init__(self, latent: int, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        if latent:
            self.linear = nn.Linear(latent, 2 * channels)
            with torch.no_grad():
                self.linear.weight.mul_(0.1)
                self.linear.bias.zero_()

    def forward(self, x: Tensor, z: Tensor | None) -> Tensor:
        normed: Tensor = self.norm(x)
        if z is None:
            return normed
        gain, shift = rearrange(self.linear(z), "b (two c) -> two b 1 1 c", two=2)
        return torch.addcmul(shift, normed, 1 + gain)


class WindowAttention(nn.Module):
    """Attention of each query with the keys and values of its own spatial window, equation 3.

    Keys and values are projected to c / k^2 channels, then k x k neighbours are stacked back into channels: windows
    have sides k times smaller, at full channel width. It is PL-MSA when `source` is the query's own map, and the
    cross-attention of CATL when `source` is the reference and k = 1. Shifted windows lie half a window further along both
    axes. One that crosses the edge of the image attends within each of its parts.
    """

    def __init__(
        self, channels: int, heads: int, window: int, k: int, own_share: float = 0.0, shifted: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.window, self.k = heads, window, k
        self.shift = window // 2 if shifted else 0
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * (channels // k**2))
        self.out = nn.Linear(channels, channels)
        self.bias = RelativePositionBias(window, k, heads, own_share)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        if not self.shift:
            return self._within_windows(x, source)
        x, source = (torch.roll(m, (-self.shift, -self.shift), dims=(1, 2)) for m in (x, source))
        out = self._within_windows(x, source, self._apart(x.shape[1], x.shape[2], x.device))
        return torch.roll(out, (self.shift, self.shift), dims=(1, 2))

    def _within_windows(self, x: Tensor, source: Tensor, apart: Tensor | None = None) -> Tensor:
        L, k, n = self.window, self.k, self.heads
        q = rearrange(self.query(x), "b (y i) (x j) (n d) -> (b y x) n (i j) d", i=L, j=L, n=n)
        key, value = rearrange(
            self.key_value(source), "b (y i p) (x j q) (two c) -> two (b y x) (i j) (p q c)", i=L // k, j=L // k, p=k, q=k, two=2
        )  # fmt: skip
        key = rearrange(key, "w t (n d) -> w n d t", n=n)
        value = rearrange(value, "w t (n d) -> w n t d", n=n)
        attention = (q * q.shape[-1] ** -0.5) @ key
        attention = attention + self.bias().to(attention.dtype)  # otherwise bfloat16 becomes float32, which is slow
        if apart is not None:
            attention = attention.masked_fill(apart.repeat(len(x), 1, 1, 1), -torch.inf)
        mixed = attention.softmax(dim=-1) @ value
        height, width = x.shape[1] // L, x.shape[2] // L
        out: Tensor = self.out(
            rearrange(mixed, "(b y x) n (i j) d -> b (y i) (x j) (n d)", y=height, x=width, i=L, j=L)
        )
        return out

    def _apart(self, height: int, width: int, device: torch.device) -> Tensor:
        """The pairs of query and cell, per window (windows, 1, L^2, (L/k)^2), that are not neighbours in the image."""
        L, k = self.window, self.k
        beyond = [torch.arange(size, device=device) >= size - self.shift for size in (height, width)]
        region = 2 * beyond[0][:, None] + 1 * beyond[1]
        query = rearrange(region, "(y i) (x j) -> (y x) 1 (i j) 1", i=L, j=L)
        cell = rearrange(region[::k, ::k], "(y i) (x j) -> (y x) 1 1 (i j)", i=L // k, j=L // k)
        return query != cell


class RelativePositionBias(nn.Module):
    """B of equation 3, aligned: the queries of a k x k cell share its offset. (heads, L^2, (L/k)^2).

    At the start of training, offset zero gets `own_share` of the attention, as far as the bias decides; with 0 attention
    is even.
    """

    index: Tensor

    def __init__(self, window: int, k: int, heads: int, own_share: float) -> None:
        super().__init__()
        cells = window // k
        side = 2 * cells - 1
        self.table = nn.Parameter(torch.zeros(side**2, heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        if own_share:
            with torch.no_grad():
                self.table[side**2 // 2] += math.log(own_share / (1 - own_share) * (cells**2 - 1))
        offset = (torch.arange(window) // k)[:, None] - torch.arange(cells)[None, :] + cells - 1
        index = rearrange(offset, "i p -> i 1 p 1") * side + rearrange(offset, "j q -> 1 j 1 q")
        self.register_buffer("index", rearrange(index, "i j p q -> (i j) (p q)"), persistent=False)

    def forward(self) -> Tensor:
        return rearrange(self.table[self.index], "query key heads -> heads query key")


class FeedForward(nn.Module):
    """Gated feed-forward network, equation 4: 1 x 1 and 3 x 3 depthwise convolution, then one half gates the other."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.inward = nn.Linear(channels, 2 * hidden)
        self.depthwise = Conv(2 * hidden, 2 * hidden, groups=2 * hidden)
        self.outward = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.depthwise(self.inward(x)).chunk(2, dim=-1)
        out: Tensor = self.outward(F.gelu(gate) * value)
        return out


class PLWformerBlock(nn.Module):
    """PL-MSA, then PG-FFN, each on a map that the prior z (b, latent) modulates, if there is one."""

    def __init__(
        self, channels: int, heads: int, window: int, k: int, latent: int, expansion: float, shifted: bool = False
    ) -> None:
        super().__init__()
        self.modulation_1 = Modulation(latent, channels)
        self.attention = WindowAttention(channels, heads, window, k, shifted=shifted)
        self.modulation_2 = Modulation(latent, channels)
        self.feed_forward = FeedForward(channels, expansion)

    def forward(self, x: Tensor, z: Tensor | None) -> Tensor:
        modulated = self.modulation_1(x, z)
        x = x + self.attention(modulated, modulated)
        out: Tensor = x + self.feed_forward(self.modulation_2(x, z))
        return out


class CATLBlock(nn.Module):
    """Cross-attention with queries from the target, and keys and values from the reference; feed-forward without prior."""

    def __init__(self, channels: int, heads: int, window: int, k: int, expansion: float) -> None:
        super().__init__()
        self.norm_target, self.norm_reference = LayerNorm(channels), LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window, k, OWN_SHARE)
        self.norm_2 = LayerNorm(channels)
        self.feed_forward = FeedForward(channels, expansion)

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        x = x + self.attention(self.norm_target(x), self.norm_reference(reference))
        out: Tensor = x + self.feed_forward(self.norm_2(x))
        return out


class Extractor(nn.Module):
    """Compresses an image (b, h, w, inputs) to a latent (b, latent): prior extraction PE and condition extraction CE."""

    def __init__(self, inputs: int, width: int, blocks: int, latent: int) -> None:
        super().__init__()
        self.head = Conv(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(Conv(width, width), nn.LeakyReLU(LEAK), Conv(width, width)) for _ in range(blocks)
        )
        self.widen = nn.Sequential(
            Conv(width, 2 * width),
            nn.LeakyReLU(LEAK),
            Conv(2 * width, 2 * width),
            nn.LeakyReLU(LEAK),
            Conv(2 * width, latent),
            nn.LeakyReLU(LEAK),
        )
        self.linears = nn.Sequential(
            nn.Linear(latent, latent), nn.LeakyReLU(LEAK), nn.Linear(latent, latent), nn.LeakyReLU(LEAK)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.head(x), LEAK)
        for block in self.blocks:
            x = x + block(x)
        latent: Tensor = self.linears(self.widen(x).mean(dim=(1, 2)))
        return latent


def contiguous(network: N) -> N:
    """A copy of a network whose convolutions get, and so give, (b, c, h, w) memory."""
    network = copy.deepcopy(network)

    def rearranged(module: nn.Module, arguments: tuple[Tensor]) -> Tensor:
        return rearrange(rearrange(arguments[0], "b h w c -> b c h w").contiguous(), "b c h w -> b h w c")

    for part in network.modules():
        if isinstance(part, Conv):
            part.register_forward_pre_hook(rearranged)
    return network
