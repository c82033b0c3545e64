"""DiffMSR: one network whose prior comes from the encoder (stage one) or the diffusion (stage two and inference)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from diffmsr.acquisition import FEATURES
from diffmsr.images import zero_filled_channels
from diffmsr.models.diffmsr.blocks import LEAK, CATLBlock, Conv, Extractor, PLWformerBlock, SubpixelConv, contiguous
from diffmsr.models.diffmsr.config import (
    PAPER,
    PAPER_REFINE,
    SMALL,
    SMALL_GATED,
    SMALL_LIVE,
    SMALL_WITHOUT_DIFFUSION,
    TINY,
    DiffMSRConfig,
)
from diffmsr.models.diffmsr.diffusion import LatentDiffusion
from diffmsr.models.diffmsr.fast import fast_network
from diffmsr.models.diffmsr.live import LiveExtractor
from diffmsr.models.diffmsr.objective import stage_one_loss, stage_one_prediction, stage_two_loss
from diffmsr.models.protocol import Batch, Losses, Model, Objective
from diffmsr.models.registry import register_model


@register_model(PAPER, PAPER_REFINE, SMALL, SMALL_LIVE, SMALL_GATED, SMALL_WITHOUT_DIFFUSION, TINY)
class DiffMSR(Model):
    """Figure 2 of the paper, at any image size: reflection pads to whole attention windows, and the result is cropped."""

    config: DiffMSRConfig

    def __init__(self, config: DiffMSRConfig) -> None:
        super().__init__(config)
        p = config
        c, r, w = p.channels, p.reference_width, p.tail_width
        if p.prior:
            extractor = LiveExtractor if p.live else Extractor
            self.encoder = extractor(2 * p.scale**2 + 2, p.extractor_width, p.extractor_blocks, p.latent)
            self.diffusion = LatentDiffusion(p)
            if p.gated_prior:
                self.prior_gate = nn.Parameter(torch.zeros(p.latent))
        if p.acquisition:
            self.acquisition = AcquisitionLatent(p.latent)
        self.embed = Conv(2 + 2 * p.scale**2 * p.skip_input, c)
        if p.reference:
            self.embed_reference = nn.Sequential(
                Conv(2, r, bias=False), Conv(r, r, stride=2, bias=False), Conv(r, c, stride=2, bias=False)
            )
            self.cross = nn.ModuleList(
                CATLBlock(c, p.heads, p.window, p.cross_k, p.expansion) for _ in range(p.cross_blocks)
            )
            self.cross_out = Conv(c, c)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                PLWformerBlock(c, p.heads, p.window, p.k, p.modulation, p.expansion, shifted=p.shift and i % 2 == 1)
                for i in range(n)
            )
            for n in p.blocks
        )
        self.layers_out = nn.ModuleList(Conv(c, c) for _ in p.blocks)
        self.tail = nn.Sequential(SubpixelConv(c, w), SubpixelConv(w, w), Conv(w, 2))
        # An untrained network then gives the zero-filled image, not noise.
        for parameter in self.tail[-1].parameters():
            nn.init.zeros_(parameter)
        self._compiled: Callable[..., Tensor] | None = None

    def prior_of(self, high: Tensor, low: Tensor) -> Tensor:
        """Z (b, latent), equation 1: from the high-resolution target (b, 2, s h, s w) and the low-resolution one. Training only."""
        prior: Tensor = self.encoder(torch.cat([self._folded(high), _channels_last(low)], dim=-1))
        return prior

    def predicted_prior(self, low: Tensor, z_T: Tensor) -> Tensor:
        """Z-hat (b, latent), equation 9: from noise Z_T (b, latent) and the low-resolution target (b, 2, h, w)."""
        prior: Tensor = self.diffusion(_channels_last(low), z_T)
        return prior

    def latent(self, prior: Tensor | None, facts: Tensor | None, batch: int) -> Tensor | None:
        """What modulates the PLWformer (batch, latent): the prior, and what the facts of the acquisition (batch, FEATURES)
        add to it. Without facts all of them are unknown, which zeros say."""
        if prior is not None and self.config.gated_prior:
            prior = self.prior_gate * prior
        if not self.config.acquisition:
            return prior
        if facts is None:
            facts = next(self.acquisition.parameters()).new_zeros(batch, FEATURES)
        told: Tensor = self.acquisition(facts)
        return told if prior is None else prior + told

    def reconstruct(self, low: Tensor, reference: Tensor, latent: Tensor | None, skip: Tensor | None = None) -> Tensor:
        """The PLWformer: low (b, 2, h, w), reference (b, 2, s h, s w), latent (b, latent) to (b, 2, s h, s w).

        `skip` is the zero-filled target, given when `low` is a patch: its own k-space is not that of the image.
        """
        h, w = low.shape[-2:]
        s, padding = self.config.scale, self._padding(h, w)
        high_padding = [s * n for n in padding]
        skip = zero_filled_channels(low, s) if skip is None else skip
        x = _channels_last(F.pad(low, padding, mode="reflect"))
        if self.config.skip_input:
            folded = self._folded(F.pad(skip.to(x.dtype), high_padding, mode="reflect"))
            x = torch.cat([x, folded], dim=-1)
        x = self.embed(x)
        if self.config.reference:
            x = x + self._from_reference(x, F.pad(reference, high_padding, mode="reflect"))
        for blocks, out in zip(self.layers, self.layers_out, strict=True):
            y = x
            for block in blocks.children():
                y = block(y, latent)
            x = x + out(y)
        detail = rearrange(self.tail(x), "b h w c -> b c h w")[..., : s * h, : s * w]
        image: Tensor = detail + skip
        return image

    def _from_reference(self, x: Tensor, reference: Tensor) -> Tensor:
        """CATL: the reference's contribution to the target's features (b, h, w, c)."""
        guide = self.embed_reference(_channels_last(reference))
        for block in self.cross:
            x = block(x, guide)
        added: Tensor = self.cross_out(x)
        return added

    def forward(
        self,
        low: Tensor,
        reference: Tensor,
        noise: Tensor,
        skip: Tensor | None = None,
        facts: Tensor | None = None,
    ) -> Tensor:
        """Inference, section 3.4: the super-resolved target (b, 2, s h, s w). `noise` is Z_T, `facts` (b, FEATURES) what
        is known of the acquisition."""
        prior = self.predicted_prior(low, noise) if self.config.prior else None
        return self.reconstruct(low, reference, self.latent(prior, facts, len(low)), skip)

    def noise_shape(self, rows: int, columns: int) -> tuple[int, ...]:
        """That of Z_T, whatever the size of the image."""
        return (self.config.z_size,)

    def loss(self, batch: Batch, stage: int, objective: Objective) -> Losses:
        """Equation 5 in stage one, equation 10 in stage two."""
        return (stage_one_loss if stage == 1 else stage_two_loss)(self, batch, objective)

    def prediction(self, batch: Batch, stage: int) -> Tensor:
        """In stage one, which has no diffusion yet, the prior comes from the truth."""
        return stage_one_prediction(self, batch) if stage == 1 else super().prediction(batch, stage)

    def begin_stage(self, stage: int, average: Self | None, objective: Objective) -> None:
        """Stage one trains all but the diffusion. Stage two trains all but the encoder, which teaches; unless joint, it
        trains the diffusion alone. What a stage does not train is fixed as averaged."""
        if stage == 2:
            assert average is not None
            if objective.joint:
                self.encoder.load_state_dict(average.encoder.state_dict())
            else:
                self.load_state_dict(average.state_dict())
        self.requires_grad_(stage == 1 or objective.joint)
        if self.config.prior:
            self.encoder.requires_grad_(stage == 1)
            self.diffusion.requires_grad_(stage == 2)

    def compile_for_training(self) -> None:
        """Compile the PLWformer: extractors and diffusion are a small part of a step."""
        self._compiled = torch.compile(self.reconstruct)

    @property
    def training_reconstruct(self) -> Callable[..., Tensor]:
        """`reconstruct`, compiled if the training configuration says so."""
        return self._compiled or self.reconstruct

    def __getstate__(self) -> dict[str, Any]:
        """A copy does not share the compiled function, which is bound to this network."""
        return {**super().__getstate__(), "_compiled": None}  # type: ignore[no-untyped-call]

    def optimised(self, dtype: torch.dtype) -> nn.Module:
        """The folded network; on a GPU, as a CUDA graph."""
        return fast_network(self, dtype)

    @property
    def training_only(self) -> Sequence[nn.Module]:
        """PE, which needs the truth."""
        return [self.encoder] if self.config.prior else []

    def comparisons(self) -> Mapping[str, Model]:
        """With every convolution on (b, c, h, w) memory, as code is commonly written."""
        return {"contiguous": contiguous(self)}

    def _folded(self, high: Tensor) -> Tensor:
        """An image (b, c, s h, s w) at low resolution without loss: (b, h, w, c s s)."""
        s = self.config.scale
        return rearrange(high, "b c (h p) (w q) -> b h w (c p q)", p=s, q=s)

    def _padding(self, h: int, w: int) -> list[int]:
        window = self.config.window
        if min(h, w) < window:
            raise ValueError(f"an image of {h} x {w} pixels is smaller than an attention window of {window} x {window}")
        return [0, -w % window, 0, -h % window]


class AcquisitionLatent(nn.Module):
    """Facts of an acquisition (b, FEATURES) to what they add to the prior (b, latent), which is nothing at first."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(FEATURES, latent), nn.Linear(latent, latent)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Earlier weights, of networks that did not know the acquisition, have none of these tensors. They add nothing."""
        for name, parameter in self.named_parameters():
            state_dict.setdefault(prefix + name, torch.zeros_like(parameter))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, facts: Tensor) -> Tensor:
        added: Tensor = self.outward(F.leaky_relu(self.inward(facts), LEAK))
        return added


def _channels_last(image: Tensor) -> Tensor:
    return rearrange(image, "b c h w -> b h w c")
