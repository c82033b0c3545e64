"""Loss of power at every write: `python -m tests.power` or, for a few moments, `test_power.py`.

`recorded.py` is a node that receives, settles, and keeps results and derived instances. It runs under strace, which sees every
write, whoever makes it: Python, SQLite. `trace.py` reads that, `disk.py` says what of it is on the disk when the power goes, and
`judge.py` starts the node on such a disk and looks for everything that was promised before.
"""
