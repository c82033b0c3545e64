"""The losses of training, against their definitions."""

import pytest
import torch

from diffmsr import kspace
from diffmsr.images import as_two_channels, zero_filled_channels
from diffmsr.losses import data_consistency_loss, image_loss


def test_data_consistency_only_judges_what_was_not_measured() -> None:
    truth = torch.randn(2, 2, 32, 32)
    low = torch.rand(2, 2, 8, 8)
    prediction = zero_filled_channels(low, 4).requires_grad_()
    data_consistency_loss(prediction, truth, low).backward()
    gradient = prediction.grad
    assert gradient is not None and gradient.abs().max() > 0
    spectrum = torch.fft.fftshift(torch.fft.fft2(torch.complex(gradient[:, 0], gradient[:, 1])), dim=(-2, -1)).abs()
    assert spectrum[:, 12:20, 12:20].max() < 1e-4 * spectrum.max()


def test_losses_by_hand() -> None:
    """Parseval: where nothing was measured, the unnormalised k-space error is the pixel count times the image's."""
    prediction, truth = torch.randn(1, 2, 16, 16), torch.randn(1, 2, 16, 16)
    assert float(image_loss(truth + 0.5, truth)) == pytest.approx(0.5)
    low = as_two_channels(torch.zeros(1, 4, 4))
    loss = float(data_consistency_loss(prediction, torch.zeros_like(truth), low))
    outside = prediction - zero_filled_channels(_crop(prediction), 4)
    assert loss == pytest.approx(256 * float(outside.square().sum(dim=1).mean()), rel=1e-4)


def _crop(image: torch.Tensor) -> torch.Tensor:
    low = kspace.crop(torch.complex(image[:, 0], image[:, 1]), 4, 4)
    return torch.stack([low.real, low.imag], dim=1)
