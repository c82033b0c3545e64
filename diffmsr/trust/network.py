"""The network of the trust map."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmsr.acquisition import FEATURES

SCALE = 4
"""The fine grid's pixels, four by four, are the channels of the grid on which the network works."""
CHANNELS = 32
DILATIONS = (1, 2, 4)
"""Of the middle convolutions: an error is judged by 17 x 17 pixels of the coarse grid, 68 x 68 of the fine one."""
FLOOR = 3e-4
"""Smallest expected error, a share of the slice's maximum: a twentieth of the noise of the cleanest images."""
TYPICAL = 0.02
"""Expected error of an untrained network."""


class TrustNetwork(nn.Module):
    """Magnitudes on the fine grid to the expected absolute error of each pixel: 3 x 3 convolutions on the coarse grid, and
    nothing that looks at a slice as a whole, so patches and slices are judged alike. Some 52,000 parameters.

    Trained with `negative_log_likelihood`, it gives the conditional mean of the absolute error.
    """

    def __init__(self) -> None:
        super().__init__()
        folded = SCALE**2
        self.enter = nn.Conv2d(4 * folded, CHANNELS, 3, padding=1)
        self.told = nn.Linear(FEATURES, CHANNELS, bias=False)
        self.middle = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=d, dilation=d) for d in DILATIONS)
        self.leave = nn.Conv2d(CHANNELS, folded, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        self.leave.bias = nn.Parameter(torch.full((folded,), math.log(TYPICAL)))

    def forward(self, skip: Tensor, reference: Tensor, image: Tensor, facts: Tensor) -> Tensor:
        """The expected absolute error (b, s h, s w) of `image`, from the zero-filled target `skip` and the reference, all of
        that shape and normalised as the super-resolution network saw them, and from what is known of the acquisition, `facts`
        (b, FEATURES)."""
        seen = torch.stack([skip, reference, image, (image - skip).abs()], dim=1)
        folded = F.pixel_unshuffle(seen, SCALE)
        x = self.enter(folded.contiguous(memory_format=torch.channels_last))
        x = F.leaky_relu(x + self.told(facts)[:, :, None, None], 0.1)
        for convolution in self.middle:
            x = x + F.leaky_relu(convolution(x), 0.1)
        return F.pixel_shuffle(self.leave(x), SCALE)[:, 0].clamp(-10.0, 2.0).exp() + FLOOR


def negative_log_likelihood(expected: Tensor, error: Tensor) -> Tensor:
    """Mean of log m + |e| / m, the negative log-likelihood of a Laplace distribution of mean absolute error m. For given
    inputs it is smallest where m is the mean of |e|, whatever their distribution."""
    return (expected.log() + error / expected).mean()
