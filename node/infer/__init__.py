"""Infer: read a pair of stacks, put the reference on the target's fine grid, run the model."""
