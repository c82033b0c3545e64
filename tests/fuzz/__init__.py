"""Malformed instances against the public surfaces of the node: `python -m tests.fuzz --data-sets 10000 --seed 0`.

`corpus.py` has whole instances, `mutate.py` damages them, `peer.py` sends any bytes as a C-STORE, `surfaces.py` drives
receive, match and infer with them and judges what came of it, `__main__.py` runs it under a memory limit and counts.
"""
