"""Faults, drawn by a seed, on a node that works for a real PACS: `python -m tests.chaos --seed 1 --kills 12`.

`faults.py` has what can happen, `scanner.py` sends studies and knows what was acknowledged, `reader.py` judges what is there in
the end, by reading the files, the database and the PACS without the node's code, and `__main__.py` runs it.
"""
