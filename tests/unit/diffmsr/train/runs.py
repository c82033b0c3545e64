"""What the tests of training share."""

import torch

from diffmsr.train import Run

CONFIGURATION = """
preset = "tiny"
network = {{ channels = 16, blocks = [1], latent = 16, extractor_width = 8, extractor_blocks = 1, tail_width = 4 }}
data = {{ lgg = "{data}" }}
share = {{ lgg = 1.0 }}
accumulate = {accumulate}
precision = "float32"
warmup = 0
log_every = 4
[stage_one]
slices = 12
learning_rate = 1e-4
patch = 64
batch = {batch}
[stage_two]
slices = 12
learning_rate = 1e-4
patch = 64
batch = {batch}
"""
"""A file of a run in two stages. Each process reads `batch` slices `accumulate` times per step."""


def flat(run: Run) -> torch.Tensor:
    """All parameters of the model in one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])
