"""MCSR: multi-contrast super-resolution by a progressive network (Lyu et al. 2020).

Q. Lyu, H. Shan, C. Steber, C. Helis, C. T. Whitlow, M. Chan, G. Wang: "Multi-contrast super-resolution MRI through a
progressive network", IEEE Transactions on Medical Imaging 39(9), 2738-2749, 2020.

From the paper: two levels for a high factor, each of which doubles the resolution; at each level the two contrasts have
encoders of their own, and are joined in the space of high-level features, not of pixels; each level has a target of its
own. Here: 0.2 M parameters (Table 1 lists 3.5 M). Left out: the adversarial, perceptual and textural terms of its loss,
which cost PSNR and need a network trained on photographs; L_img and L_dc of the harness take the place of the squared
error.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmsr.losses import image_loss
from diffmsr.models.peers.parts import PeerConfig, Regressor, conv, residual_blocks, silent_conv
from diffmsr.models.protocol import Batch, Losses, Objective, reconstruction_losses
from diffmsr.models.registry import register_model

HALF_WEIGHT = 0.5
"""Of the loss of the first level's image."""


@dataclass(frozen=True)
class MCSRConfig(PeerConfig):
    """Channels, and residual blocks of each encoder and decoder, of the level at half and at full resolution."""

    channels: tuple[int, int] = (40, 16)
    blocks: tuple[int, int] = (2, 1)


class Doubling(nn.Module):
    """Target and reference (b, 2, h, w) each through an encoder, joined, and through a decoder: features (b, c, h, w)."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.target, self.reference = (
            nn.Sequential(conv(2, channels), residual_blocks(channels, blocks)) for _ in range(2)
        )
        self.join = conv(2 * channels, channels)
        self.decoder = residual_blocks(channels, blocks)
        self.detail = silent_conv(channels, 2)

    def forward(self, target: Tensor, reference: Tensor) -> Tensor:
        joined = F.relu(self.join(torch.cat([self.target(target), self.reference(reference)], dim=1)))
        features: Tensor = self.decoder(joined)
        return features


@register_model(MCSRConfig("mcsr"))
class MCSR(Regressor):
    """Level one: target and reference at half resolution to y (b, 2, 2 h, 2 w). Level two: the zero-filled target with
    what level one added, enlarged by a pixel shuffle, and the reference, to (b, 2, 4 h, 4 w)."""

    def __init__(self, config: MCSRConfig) -> None:
        super().__init__(config)
        (half, full), (half_blocks, full_blocks) = config.channels, config.blocks
        self.first, self.second = Doubling(half, half_blocks), Doubling(full, full_blocks)
        self.enlarge = silent_conv(half, 8)

    def detail(self, low: Tensor, reference: Tensor, skip: Tensor) -> Tensor:
        """From both levels together."""
        return self.levels(reference, skip)[1]

    def levels(self, reference: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """What is missing at half (b, 2, 2 h, 2 w) and at full resolution (b, 2, 4 h, 4 w)."""
        # Every second pixel of the zero-filled target is the target zero-filled to half the size: nothing is between.
        features = self.first(skip[..., ::2, ::2], halved(reference))
        added = F.pixel_shuffle(self.enlarge(features), 2)
        return self.first.detail(features), added + self.second.detail(self.second(skip + added, reference))

    def loss(self, batch: Batch, stage: int, objective: Objective) -> Losses:
        """The losses of the result, and L_img of level one against the truth at half resolution."""
        half, full = self.levels(batch.reference, batch.skip)
        losses = reconstruction_losses(full + batch.skip, batch, objective)
        first = half + batch.skip[..., ::2, ::2]
        return losses | {"half": HALF_WEIGHT * image_loss(first.float(), halved(batch.truth))}


def halved(image: Tensor) -> Tensor:
    """An image (b, 2, h, w) smoothed by (1, 2, 1) / 4 along both axes, every second pixel: (b, 2, h / 2, w / 2). Pixel i
    stays at pixel 2 i."""
    weights = image.new_tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(weights, weights).expand(image.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(image, [1, 1, 1, 1], mode="replicate"), kernel, stride=2, groups=image.shape[1])
