"""The network that inference runs: the same function as `DiffMSR`, in fewer and faster operations.

Some of it folds exactly, by algebra. The tail and the reference embedding have no non-linearity and become one
convolution each; the linear layers of all modulations become one product per slice; position biases become constants. The
rest is a choice of kernels. In float32 the images equal those of the plain network within 1e-5 of their maximum.
"""

import copy
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from diffmsr.acquisition import FEATURES
from diffmsr.images import zero_filled_channels
from diffmsr.models.diffmsr.blocks import CATLBlock, Conv, FeedForward, Modulation, PLWformerBlock, WindowAttention
from diffmsr.models.kernels import Folded, Replayed, by_onednn, fixed, fixed_linear

if TYPE_CHECKING:
    from diffmsr.models.diffmsr.model import DiffMSR

LANES = 16
"""Floats in an AVX-512 register. A depthwise convolution of 288 channels takes a third of the time of one of 280."""


def fast_network(model: "DiffMSR", dtype: torch.dtype = torch.float32) -> nn.Module:
    """The fast network, on the model's device. On a GPU it is replayed as a CUDA graph."""
    network = FastDiffMSR(model, dtype)
    return Replayed(network) if next(model.parameters()).is_cuda else network


class FastDiffMSR(nn.Module):
    """`DiffMSR` without PE, for inference: the same arguments, the same image.

    With dtype bfloat16, layer norms, softmax and means still accumulate in float32, and the Fourier transforms, the
    diffusion's chain and the skip path are float32 throughout.
    """

    @torch.inference_mode(mode=False)
    def __init__(self, model: "DiffMSR", dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.dtype = model.config, dtype
        p = model.config
        self.network = network = copy.deepcopy(model).eval().requires_grad_(False)
        if p.prior:
            del network.encoder
        if p.modulation:
            self.modulations = AllModulations([part for part in network.modules() if isinstance(part, Modulation)])
        if p.reference:
            network.embed_reference = nn.Sequential(Folded(network.embed_reference, inputs=2, taps=9, stride=4))
        pixels = Rearrange("b (h p) (w q) c -> b h w (p q c)", p=p.scale, q=p.scale)
        image = Rearrange("b h w (p q c) -> b (h p) (w q) c", p=p.scale, q=p.scale)
        tail = Folded(nn.Sequential(network.tail, pixels), inputs=p.channels, taps=5, stride=1)
        network.tail = nn.Sequential(tail, image)
        for part in list(network.modules()):
            if isinstance(part, PLWformerBlock | CATLBlock):
                part.attention = FastAttention(part.attention)
                part.feed_forward = FastFeedForward(part.feed_forward)
            if isinstance(part, nn.LeakyReLU):
                part.inplace = True
        place = itertools.count(step=2)
        network.layers = nn.ModuleList(
            nn.ModuleList(FastPLWformerBlock(block, next(place)) for block in blocks.children())
            for blocks in network.layers
        )
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, child in network.named_children():
            if name == "acquisition":
                continue
            if name != "diffusion":
                child.to(dtype)
            elif p.condition:
                child.condition.to(dtype)

    def forward(self, low: Tensor, reference: Tensor, z_T: Tensor, facts: Tensor | None = None) -> Tensor:
        """As `DiffMSR.forward`."""
        facts = low.new_zeros(len(low), FEATURES) if facts is None else facts
        if low.device.type == "cpu":
            # The data of one slice fits the caches. Four slices at once take 1.4 times as long.
            slices = [slice(i, i + 1) for i in range(len(low))]
            return torch.cat([self._together(low[i], reference[i], z_T[i], facts[i]) for i in slices])
        return self._together(low, reference, z_T, facts)

    def _together(self, low: Tensor, reference: Tensor, z_T: Tensor, facts: Tensor) -> Tensor:
        inputs, modulations = low.to(self.dtype), None
        prior = self.network.predicted_prior(inputs, z_T) if self.config.prior else None
        latent = self.network.latent(prior, facts, len(low))
        if latent is not None:
            modulations = self.modulations(latent).to(self.dtype)
        skip = zero_filled_channels(low, self.config.scale)
        return self.network.reconstruct(inputs, reference.to(self.dtype), modulations, skip)


class AllModulations(nn.Module):
    """Gains and shifts of every modulation, from Z in one product: (b, latent) to (b, modulations, 2, c)."""

    def __init__(self, parts: Sequence[Modulation]) -> None:
        super().__init__()
        self.parts = len(parts)
        self.linear = fixed_linear(
            torch.cat([part.linear.weight for part in parts]), torch.cat([part.linear.bias for part in parts])
        )

    def forward(self, z: Tensor) -> Tensor:
        both: Tensor = self.linear(z).unflatten(1, (self.parts, 2, -1))
        both[:, :, 0] += 1
        return both


class FastModulation(Modulation):
    """`Modulation`, which takes its gain and shift from what `AllModulations` gives."""

    def __init__(self, plain: Modulation, place: int) -> None:
        nn.Module.__init__(self)
        self.norm, self.place = plain.norm, place

    def forward(self, x: Tensor, modulations: Tensor | None) -> Tensor:
        if modulations is None:
            normed: Tensor = self.norm(x)
            return normed
        gain, shift = modulations[:, self.place].unbind(1)
        gain = gain * self.norm.weight
        if len(x) == 1:  # as weight and bias of the layer norm itself, in one pass
            return F.layer_norm(x, x.shape[-1:], gain[0], shift[0])
        return torch.addcmul(shift[:, None, None], F.layer_norm(x, x.shape[-1:]), gain[:, None, None])


class FastPLWformerBlock(PLWformerBlock):
    """`PLWformerBlock` with additions in place. Its modulations are number `place` and the next one."""

    def __init__(self, plain: nn.Module, place: int) -> None:
        nn.Module.__init__(self)
        assert isinstance(plain, PLWformerBlock)
        self.modulation_1 = FastModulation(plain.modulation_1, place)
        self.modulation_2 = FastModulation(plain.modulation_2, place + 1)
        self.attention, self.feed_forward = plain.attention, plain.feed_forward

    def forward(self, x: Tensor, modulations: Tensor | None) -> Tensor:
        modulated = self.modulation_1(x, modulations)
        x = self.attention(modulated, modulated).add_(x)
        out: Tensor = self.feed_forward(self.modulation_2(x, modulations))
        return out.add_(x)


class FastAttention(WindowAttention):
    """`WindowAttention` by the fused kernel, with the position bias looked up once."""

    cached_bias: Tensor

    def __init__(self, plain: WindowAttention) -> None:
        nn.Module.__init__(self)
        self.heads, self.window, self.k, self.shift = plain.heads, plain.window, plain.k, plain.shift
        self.query, self.key_value, self.out = (
            fixed_linear(layer.weight, layer.bias) for layer in (plain.query, plain.key_value, plain.out)
        )
        self.register_buffer("cached_bias", plain.bias().detach()[None].contiguous())

    def _within_windows(self, x: Tensor, source: Tensor, apart: Tensor | None = None) -> Tensor:
        L, k, n = self.window, self.k, self.heads
        query = rearrange(self.query(x), "b (y i) (x j) (n d) -> (b y x) n (i j) d", i=L, j=L, n=n)
        key, value = rearrange(
            self.key_value(source), "b (y i p) (x j q) (two c) -> two (b y x) (i j) (p q c)", i=L // k, j=L // k, p=k, q=k, two=2
        )  # fmt: skip
        key, value = (rearrange(part, "w t (n d) -> w n t d", n=n) for part in (key, value))
        bias = self.cached_bias
        if apart is not None:
            bias = bias.masked_fill(apart.repeat(len(x), 1, 1, 1), -torch.inf)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        height, width = x.shape[1] // L, x.shape[2] // L
        out: Tensor = self.out(
            rearrange(mixed, "(b y x) n (i j) d -> b (y i) (x j) (n d)", y=height, x=width, i=L, j=L)
        )
        return out


class FastFeedForward(FeedForward):
    """`FeedForward` that computes gate and value apart: as views of one result both would have gaps, and the gelu of such a
    view is slow. Zeros fill their channels up to whole registers. The gelu of zero is zero."""

    def __init__(self, plain: FeedForward) -> None:
        nn.Module.__init__(self)
        missing = -plain.outward.in_features % LANES

        def halves(x: Tensor) -> list[Tensor]:
            """The gate's part and the value's part of (2 * hidden, ...), each followed by zeros."""
            return [F.pad(half, [0, 0] * (x.ndim - 1) + [0, missing]) for half in x.detach().chunk(2)]

        halved = zip(*map(halves, plain.inward.parameters()), strict=True)
        self.gate, self.value = (fixed_linear(*both) for both in halved)
        self.gate_depthwise, self.value_depthwise = (
            _depthwise(*both) for both in zip(*map(halves, plain.depthwise.parameters()), strict=True)
        )
        self.outward = fixed_linear(F.pad(plain.outward.weight, [0, missing]), plain.outward.bias)

    def forward(self, x: Tensor) -> Tensor:
        gated = self._gated_by_onednn if by_onednn(x) else self._gated
        out: Tensor = self.outward(gated(self.gate(x), self.value(x)))
        return out

    def _gated(self, gate: Tensor, value: Tensor) -> Tensor:
        out: Tensor = F.gelu(self.gate_depthwise(gate)).mul_(self.value_depthwise(value))
        return out

    def _gated_by_onednn(self, gate: Tensor, value: Tensor) -> Tensor:
        """The same, with gelu and product applied while the convolutions' results are in registers."""
        same: list[list[int]] = [[1, 1]] * 3  # padding, stride, dilation
        first, second = self.gate_depthwise, self.value_depthwise
        gate, value = (rearrange(part, "b h w c -> b c h w") for part in (gate, value))
        gate = torch.ops.mkldnn._convolution_pointwise(
            gate, first.weight, first.bias, *same, first.groups, "gelu", [], "none"
        )
        out: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            value, gate, second.weight, second.bias, *same, second.groups, "mul", None, None, [], None
        )
        return rearrange(out, "b c h w -> b h w c")


def _depthwise(kernel: Tensor, bias: Tensor) -> Conv:
    conv = Conv(len(kernel), len(kernel), groups=len(kernel))
    conv.weight, conv.bias = fixed(kernel), fixed(bias)
    return conv
