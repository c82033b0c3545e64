"""Training of the trust map of frozen weights: `recipe` describes a run, `corruption` makes slices on which these weights fail,
`seen` keeps what they
make of them, `loop` trains, `export` calibrates on patients of the validation part and writes the weights.
"""

from diffmsr.train_trust.export import export_trust
from diffmsr.train_trust.loop import fit
from diffmsr.train_trust.recipe import Recipe, read_recipe

__all__ = ["Recipe", "export_trust", "fit", "read_recipe"]
