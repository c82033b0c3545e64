"""DiffMSR: one network, whose prior comes from the encoder (stage one) or the diffusion (stage two and inference)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from diffmsr.blocks import Conv, CrossBlock, Extractor, PriorBlock, SubpixelConv
from diffmsr.cnn import ResidualCNN
from diffmsr.diffusion import LatentDiffusion
from diffmsr.images import zero_filled
from diffmsr.presets import CNNPreset, Preset


class DiffMSR(nn.Module):
    """Figure 2 of the paper, at any image size: padded to whole attention windows by reflection, and cropped back."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = p = preset
        c, r, w = p.channels, p.reference_width, p.tail_width
        if p.prior:
            self.encoder = Extractor(2 * p.scale**2 + 2, p.extractor_width, p.extractor_blocks, p.latent)
            self.diffusion = LatentDiffusion(p)
        self.embed = Conv(2 + 2 * p.scale**2 * p.skip_input, c)
        if p.reference:
            self.embed_reference = nn.Sequential(
                Conv(2, r, bias=False), Conv(r, r, stride=2, bias=False), Conv(r, c, stride=2, bias=False)
            )
            self.cross = nn.ModuleList(
                CrossBlock(c, p.heads, p.window, p.cross_k, p.expansion) for _ in range(p.cross_blocks)
            )
            self.cross_out = Conv(c, c)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                PriorBlock(c, p.heads, p.window, p.k, p.z_size, p.expansion, shifted=p.shift and i % 2 == 1)
                for i in range(n)
            )
            for n in p.blocks
        )
        self.layers_out = nn.ModuleList(Conv(c, c) for _ in p.blocks)
        self.tail = nn.Sequential(SubpixelConv(c, w), SubpixelConv(w, w), Conv(w, 2))
        # A network that has learnt nothing then gives the zero-filled image, not noise.
        for parameter in self.tail[-1].parameters():
            nn.init.zeros_(parameter)

    def prior_of(self, high: Tensor, low: Tensor) -> Tensor:
        """Z, equation 1: from the high-resolution target itself. Training only."""
        prior: Tensor = self.encoder(torch.cat([self._folded(high), _channels_last(low)], dim=-1))
        return prior

    def predicted_prior(self, low: Tensor, z_T: Tensor) -> Tensor:
        """Z-hat: from noise (b, latent) and the low-resolution target, equation 9."""
        prior: Tensor = self.diffusion(_channels_last(low), z_T)
        return prior

    def reconstruct(self, low: Tensor, reference: Tensor, prior: Tensor | None, skip: Tensor | None = None) -> Tensor:
        """The PLWformer: low (b, 2, h, w), reference (b, 2, s h, s w), prior (b, latent) to (b, 2, s h, s w).

        `skip` is the zero-filled target; it is given when `low` is a patch, whose own k-space is not the image's.
        """
        h, w = low.shape[-2:]
        s, padding = self.preset.scale, self._padding(h, w)
        high_padding = [s * n for n in padding]
        skip = zero_filled(low, s) if skip is None else skip
        x = _channels_last(F.pad(low, padding, mode="reflect"))
        if self.preset.skip_input:
            folded = self._folded(F.pad(skip.to(x.dtype), high_padding, mode="reflect"))
            x = torch.cat([x, folded], dim=-1)
        x = self.embed(x)
        if self.preset.reference:
            x = x + self._from_reference(x, F.pad(reference, high_padding, mode="reflect"))
        for blocks, out in zip(self.layers, self.layers_out, strict=True):
            y = x
            for block in blocks.children():
                y = block(y, prior)
            x = x + out(y)
        detail = rearrange(self.tail(x), "b h w c -> b c h w")[..., : s * h, : s * w]
        image: Tensor = detail + skip
        return image

    def _from_reference(self, x: Tensor, reference: Tensor) -> Tensor:
        """CATL: what the reference adds to the target's features (b, h, w, c)."""
        guide = self.embed_reference(_channels_last(reference))
        for block in self.cross:
            x = block(x, guide)
        added: Tensor = self.cross_out(x)
        return added

    def forward(self, low: Tensor, reference: Tensor, z_T: Tensor) -> Tensor:
        """Inference, section 3.4: the super-resolved target (b, 2, s h, s w)."""
        return self.reconstruct(low, reference, self.predicted_prior(low, z_T) if self.preset.prior else None)

    def _folded(self, high: Tensor) -> Tensor:
        """(b, c, s h, s w) at low resolution without loss: (b, h, w, c s s)."""
        s = self.preset.scale
        return rearrange(high, "b c (h p) (w q) -> b h w (c p q)", p=s, q=s)

    def _padding(self, h: int, w: int) -> list[int]:
        window = self.preset.window
        if min(h, w) < window:
            raise ValueError(f"an image of {h} x {w} pixels is smaller than an attention window of {window} x {window}")
        return [0, -w % window, 0, -h % window]


Network = DiffMSR | ResidualCNN


def build(preset: Preset | CNNPreset) -> Network:
    """The network of a preset, before training."""
    return DiffMSR(preset) if isinstance(preset, Preset) else ResidualCNN(preset)


def _channels_last(image: Tensor) -> Tensor:
    return rearrange(image, "b c h w -> b h w c")
