"""What DiffMSR is trained for: equations 5 and 10."""

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmsr import kspace

DC_WEIGHT = 0.001
"""lambda_2 of equation 5, for the unnormalised transform; an orthonormal one would shrink the term by the image's size."""


def image_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """L_img: mean absolute difference of (b, 2, h, w)."""
    return F.l1_loss(prediction, truth)


def data_consistency_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """L_dc: mean absolute difference of the unnormalised k-spaces' real and imaginary parts."""
    difference = prediction - truth
    k = kspace.fft2c(torch.complex(difference[:, 0], difference[:, 1]))
    return torch.view_as_real(k).abs().mean()


def prior_loss(predicted: Tensor, prior: Tensor) -> Tensor:
    """L_diff: mean absolute difference of the priors (b, latent)."""
    return F.l1_loss(predicted, prior)
