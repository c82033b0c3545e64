"""How a scanner acquired what it stored: a typed `Acquisition`, forward and backward.

`model` says what an acquisition is; `transfer` how it weighs k-space; `forward` simulates it. Backward, `estimate` looks at
the stack's spectrum (`spectrum`, `evidence`) and its air (`air`), with the header's facts as prior knowledge; `undo`
undoes what can be undone before a network sees the image; `features` gives the network the rest. `named` has
the acquisitions that evaluations measure.
"""

from diffmsr.acquisition.air import air_noise
from diffmsr.acquisition.estimate import Estimate, estimate
from diffmsr.acquisition.features import FEATURES, features
from diffmsr.acquisition.forward import simulate
from diffmsr.acquisition.model import FULL, Acquisition, AcquisitionError, Filter
from diffmsr.acquisition.named import NAMED, header_of
from diffmsr.acquisition.undo import Undoing, cropped_matrix, left_over, onto_cropped_grid, onto_stored_grid, undo

__all__ = [
    "FEATURES",
    "FULL",
    "NAMED",
    "Acquisition",
    "AcquisitionError",
    "Estimate",
    "Filter",
    "Undoing",
    "air_noise",
    "cropped_matrix",
    "estimate",
    "features",
    "header_of",
    "left_over",
    "onto_cropped_grid",
    "onto_stored_grid",
    "simulate",
    "undo",
]
