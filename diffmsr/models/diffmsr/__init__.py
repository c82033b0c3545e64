"""DiffMSR (Li et al., CVPR 2024): multi-contrast super-resolution with a latent diffusion prior.

`model.py` is the network on one screen, `config.py` its sizes, `blocks.py` its parts, `diffusion.py` the prior,
`objective.py` what it is trained for, `fast.py` what inference runs. docs/paper.md says which equation is where.
"""

from diffmsr.models.diffmsr.config import DiffMSRConfig
from diffmsr.models.diffmsr.model import DiffMSR

__all__ = ["DiffMSR", "DiffMSRConfig"]
