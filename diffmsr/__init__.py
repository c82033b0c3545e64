"""DiffMSR (Li et al., CVPR 2024): multi-contrast MRI super-resolution with a latent diffusion prior. Arrays only.

`model.py` is the network on one screen, `blocks.py` its parts, `diffusion.py` the prior, `losses.py` what it is trained
for; `inference.py` is what the node runs. For research use only.
"""
