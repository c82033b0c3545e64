"""Match: which stacks of a study are target and reference, and for every other stack why not.

`images.py` reads one image's header into a typed record, `stacks.py` sorts images into stacks, `image_checks.py` and
`stack_checks.py` refuse, `contrast.py` classifies, `site.py` applies the rules of the site, `pairing.py` compares two
stacks, `assess.py` makes the verdict of a study from these, `explanation.py` says it. All of it is pure functions on
headers; only `worker.py` knows the tracker.
"""
