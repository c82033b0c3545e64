"""The baseline every table shows: a plain residual convolutional network with the same inputs and the same skip."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmsr.images import zero_filled
from diffmsr.presets import CNNPreset


class ResidualCNN(nn.Module):
    """3 x 3 convolutions at low resolution; the reference and the zero-filled target come in by pixel unshuffle.

    Images are (b, 2, h, w). It has neither attention nor prior, and trains in one stage.
    """

    def __init__(self, preset: CNNPreset) -> None:
        super().__init__()
        self.preset = preset
        c, folded = preset.channels, 2 * preset.scale**2
        self.head = nn.Conv2d(2 + 2 * folded, c, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1))
            for _ in range(preset.blocks)
        )
        self.tail = nn.Conv2d(c, folded, 3, padding=1)
        # As in DiffMSR: a network that has learnt nothing gives the zero-filled image.
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    def reconstruct(self, low: Tensor, reference: Tensor, prior: None = None, skip: Tensor | None = None) -> Tensor:
        """low (b, 2, h, w), reference (b, 2, s h, s w), zero-filled target `skip` (made here when it is not given) to
        (b, 2, s h, s w)."""
        s = self.preset.scale
        skip = zero_filled(low, s) if skip is None else skip
        x = torch.cat([low, F.pixel_unshuffle(reference, s), F.pixel_unshuffle(skip, s)], dim=1)
        x = self.head(x.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = x + block(x)
        image: Tensor = F.pixel_shuffle(self.tail(x), s) + skip
        return image

    def forward(self, low: Tensor, reference: Tensor, z_T: Tensor) -> Tensor:
        """The super-resolved target (b, 2, s h, s w); `z_T` is empty, there is no prior."""
        return self.reconstruct(low, reference)
