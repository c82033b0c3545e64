"""What comparisons of trained networks share, ablations and Table 1.

`folders` lets several processes share the work, `measure` gives the scores of trained weights slice by slice.
"""

from diffmsr.compare.folders import ElsewhereError, OutOfTimeError, held, replace_text, write_json
from diffmsr.compare.measure import CLEAN, STORED, VARIED, Scores, patients_of, scores_of, slice_scores

__all__ = [
    "CLEAN",
    "STORED",
    "VARIED",
    "ElsewhereError",
    "OutOfTimeError",
    "Scores",
    "held",
    "patients_of",
    "replace_text",
    "scores_of",
    "slice_scores",
    "write_json",
]
