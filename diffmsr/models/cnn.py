"""The baseline: a plain residual convolutional network with the same inputs and the same skip path as DiffMSR."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmsr.images import zero_filled_channels
from diffmsr.models.protocol import Model, ModelConfig
from diffmsr.models.registry import register_model


@dataclass(frozen=True)
class CNNConfig(ModelConfig):
    """The size of the network."""

    channels: int = 64
    blocks: int = 6


@register_model(CNNConfig("cnn"))
class ResidualCNN(Model):
    """3 x 3 convolutions at low resolution. The reference and the zero-filled target come in by pixel unshuffle.

    It has neither attention nor prior, and trains in one stage.
    """

    def __init__(self, config: CNNConfig) -> None:
        super().__init__(config)
        c, folded = config.channels, 2 * config.scale**2
        self.head = nn.Conv2d(2 + 2 * folded, c, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1))
            for _ in range(config.blocks)
        )
        self.tail = nn.Conv2d(c, folded, 3, padding=1)
        # As in DiffMSR: an untrained network gives the zero-filled image.
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    def forward(self, low: Tensor, reference: Tensor, noise: Tensor, skip: Tensor | None = None) -> Tensor:
        """The super-resolved target (b, 2, s h, s w). `noise` is empty."""
        s = self.config.scale
        skip = zero_filled_channels(low, s) if skip is None else skip
        x = torch.cat([low, F.pixel_unshuffle(reference, s), F.pixel_unshuffle(skip, s)], dim=1)
        x = self.head(x.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = x + block(x)
        image: Tensor = F.pixel_shuffle(self.tail(x), s) + skip
        return image
