"""Match: which stacks of a study are target and reference, and for every other one why not.

`headers.py` reads what may be damaged, `stacks.py` sorts slices into stacks, `suitability.py` refuses, `contrast.py`
classifies, `pairing.py` holds two stacks against each other, `assess.py` makes the verdict of a study from these,
`words.py` says it. All of it pure functions on headers; only `worker.py` knows the tracker.
"""
