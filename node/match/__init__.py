"""Match: which stacks of a study are target and reference, and for every other stack why not.

`images.py` reads one image's header into a typed record, `stacks.py` sorts images into stacks, `image_checks.py` and
`stack_checks.py` refuse, `contrast.py` classifies, `site.py` applies the rules of the site, `stack_roles.py` gives each
stack its role, `pairing.py` compares two stacks, `choice.py` chooses the reference of a target, `assess.py` makes the
verdict of a study from these, `explanation.py` says it in lines. All of it is pure functions on headers; only
`worker.py` knows the tracker.
"""
