"""DiffMSR (Li et al., CVPR 2024) and its peers: multi-contrast MRI super-resolution, on arrays only.

`models` holds the networks, `data` the data sets; `train`, `evaluate`, `ablate` and `bench` work on any of them;
`inference.py` is what the node runs; `trust` predicts its errors, and `train_trust` trains that. For research use only.
"""
