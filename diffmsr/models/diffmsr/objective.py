"""What DiffMSR is trained for: equation 5 in stage one, equation 10 in stage two."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmsr.models.protocol import Batch, Losses, Objective, reconstruction_losses

if TYPE_CHECKING:
    from diffmsr.models.diffmsr.model import DiffMSR


def stage_one_loss(model: "DiffMSR", batch: Batch, objective: Objective) -> Losses:
    """Equation 5: L_img + lambda_2 L_dc, with the prior from the truth. PE and PLWformer learn together."""
    return reconstruction_losses(_reconstructed(model, batch, _prior_of_truth(model, batch)), batch, objective)


def stage_two_loss(model: "DiffMSR", batch: Batch, objective: Objective) -> Losses:
    """Equation 10: L_diff + L_img + lambda_2 L_dc, with the prior from the diffusion. L_diff alone unless joint.

    Z_T is the encoder's prior, diffused (equation 6). The encoder is the one of stage one and gets no gradient.
    """
    with torch.no_grad():
        prior = model.prior_of(batch.truth, batch.low).float()
    predicted = model.predicted_prior(batch.low, model.diffusion.diffuse(prior, batch.noise(prior.shape[1:])))
    losses = {"diff": prior_loss(predicted.float(), prior)}
    if objective.joint:
        losses |= reconstruction_losses(_reconstructed(model, batch, predicted), batch, objective)
    return losses


def prior_loss(predicted: Tensor, prior: Tensor) -> Tensor:
    """L_diff: mean absolute difference of the priors (b, latent)."""
    return F.l1_loss(predicted, prior)


def stage_one_prediction(model: "DiffMSR", batch: Batch) -> Tensor:
    """The image with the prior from the truth. No inference can reach its quality."""
    latent = model.latent(_prior_of_truth(model, batch), batch.facts, len(batch.low))
    return model.reconstruct(batch.low, batch.reference, latent, batch.skip)


def _prior_of_truth(model: "DiffMSR", batch: Batch) -> Tensor | None:
    return model.prior_of(batch.truth, batch.low) if model.config.prior else None


def _reconstructed(model: "DiffMSR", batch: Batch, prior: Tensor | None) -> Tensor:
    latent = model.latent(prior, batch.facts, len(batch.low))
    return model.training_reconstruct(batch.low, batch.reference, latent, batch.skip)
