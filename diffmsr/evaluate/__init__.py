"""Quality of trained weights on patients never seen, compared with methods that know less.

`run` measures, `methods` names what is compared, `intervals` says how sure a mean is, `figure` draws slices and errors,
`summary` sets the figures for reading; `acquisitions` measures targets as scanners store them; `lesions` measures what becomes of lesions; `trust` measures
whether expected errors are right; `selection` chooses slices.
"""

from diffmsr.evaluate.acquisitions import acquisition_table, evaluate_acquisitions, simulated_stack, stacks
from diffmsr.evaluate.intervals import RESAMPLES, interval
from diffmsr.evaluate.lesions import evaluate_lesions, lesion_table
from diffmsr.evaluate.methods import Method, names_of
from diffmsr.evaluate.run import BATCH, Conditions, evaluate
from diffmsr.evaluate.summary import summary
from diffmsr.evaluate.trust import evaluate_trust, trust_table

__all__ = [
    "BATCH",
    "RESAMPLES",
    "Conditions",
    "Method",
    "acquisition_table",
    "evaluate",
    "evaluate_acquisitions",
    "evaluate_lesions",
    "evaluate_trust",
    "interval",
    "lesion_table",
    "names_of",
    "simulated_stack",
    "stacks",
    "summary",
    "trust_table",
]
