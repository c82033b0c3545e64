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
AROUND = 5
"""Side of the window in which `agreement` compares, on the coarse grid."""
TINY = 1e-5
DISAGREEMENT = 4.0
"""Brings 1 less the agreement of an image to the order of 1."""
FLOOR = 3e-4
"""Smallest expected error, a share of the slice's maximum: a twentieth of the noise of the cleanest images."""
TYPICAL = 0.02
"""Expected error of an untrained network."""


class TrustNetwork(nn.Module):
    """Magnitudes on the fine grid to the expected absolute error of each pixel, by 3 x 3 convolutions on the coarse grid. Some
    50,000 parameters. What is known of a slice as a whole, its acquisition and the `agreement` of target and reference, raises or lowers
    the expectation of all its pixels.

    Trained with `negative_log_likelihood`, it gives the conditional mean of the absolute error.
    """

    def __init__(self) -> None:
        super().__init__()
        folded = SCALE**2
        self.enter = nn.Conv2d(4 * folded + 1, CHANNELS, 3, padding=1)
        self.whole = nn.Sequential(
            nn.Linear(FEATURES + 1, CHANNELS), nn.LeakyReLU(0.1), nn.Linear(CHANNELS, CHANNELS + 1)
        )
        self.middle = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=d, dilation=d) for d in DILATIONS)
        self.leave = nn.Conv2d(CHANNELS, folded, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        self.leave.bias = nn.Parameter(torch.full((folded,), math.log(TYPICAL)))

    def forward(self, skip: Tensor, reference: Tensor, image: Tensor, facts: Tensor) -> Tensor:
        """The expected absolute error (b, s h, s w) of `image`, from the zero-filled target `skip` and the reference, all of
        that shape and normalised as the super-resolution network saw them, and from what is known of the acquisition, `facts`
        (b, FEATURES)."""
        local, whole = agreement(skip, reference)
        of_slice = self.whole(torch.cat([facts, DISAGREEMENT * (1 - whole)], dim=1))[:, :, None, None]
        pixels = torch.stack([skip, reference, image, (image - skip).abs()], dim=1)
        seen = torch.cat([F.pixel_unshuffle(pixels, SCALE), local], dim=1)
        x = self.enter(seen.contiguous(memory_format=torch.channels_last))
        x = F.leaky_relu(x + of_slice[:, 1:], 0.1)
        for convolution in self.middle:
            x = x + F.leaky_relu(convolution(x), 0.1)
        logarithm = F.pixel_shuffle(self.leave(x) + of_slice[:, :1], SCALE)[:, 0]
        return logarithm.clamp(-10.0, 2.0).exp() + FLOOR


def agreement(skip: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Whether edges of target and reference (b, s h, s w) have one direction, whatever their contrasts: around each pixel of the
    coarse grid (b, 1, h, w), and over the whole image (b, 1).

    The squared cosine of the angle between both gradients (normalised gradient fields, Haber and Modersitzki 2006), weighted by the
    product of their lengths: 1 where they are parallel, a half where they have nothing to do with each other, 0 where one is flat.
    """
    (ay, ax), (by, bx) = (_gradient(F.avg_pool2d(image[:, None], SCALE)) for image in (skip, reference))
    lengths = ((ay.square() + ax.square()) * (by.square() + bx.square())).sqrt()
    parallel = (ay * by + ax * bx).square() / (lengths + TINY)
    local = F.avg_pool2d(parallel, AROUND, 1, AROUND // 2) / (F.avg_pool2d(lengths, AROUND, 1, AROUND // 2) + TINY)
    return local, parallel.mean((2, 3)) / (lengths.mean((2, 3)) + TINY)


def _gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of (b, 1, h, w) along rows and columns."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    along_rows, along_columns = (
        padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1],
        padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2],
    )
    return along_rows, along_columns


def negative_log_likelihood(expected: Tensor, error: Tensor) -> Tensor:
    """Mean of log m + |e| / m, the negative log-likelihood of a Laplace distribution of mean absolute error m. For given
    inputs it is smallest where m is the mean of |e|, whatever their distribution."""
    return (expected.log() + error / expected).mean()
