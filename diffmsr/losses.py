"""The terms of training objectives that any network may use."""

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmsr import kspace

DC_WEIGHT = 0.001
"""lambda_2 of equation 5, for the unnormalised transform. With an orthonormal one the term would be smaller by the number
of pixels."""


def image_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """L_img: mean absolute difference of (b, 2, h, w)."""
    return F.l1_loss(prediction, truth)


def data_consistency_loss(prediction: Tensor, truth: Tensor, low: Tensor) -> Tensor:
    """L_dc: mean squared difference of the unnormalised k-spaces K_DC and K_HR, of (b, 2, h, w).

    K_DC is the prediction's k-space with its centre replaced by what was measured, the k-space of `low`. So the gradient
    reaches only the frequencies that the network has to invent.
    """
    k, k_truth, measured = (kspace.fft2c(torch.complex(x[:, 0], x[:, 1])) for x in (prediction, truth, low))
    gain = k.shape[-2] * k.shape[-1] / (measured.shape[-2] * measured.shape[-1])
    k = kspace.with_centre(k, gain * measured)
    return torch.view_as_real(k - k_truth).square().sum(dim=-1).mean()
