"""Many more studies than a volume holds, through a node that frees what is done with: `python -m tests.retention --studies 500
--volume-mb 200`, as root.

`volume.py` makes a file system of that size, `story.py` sends the studies and takes the PACS away at times, `watch.py` samples
the volume and the memory, and `judge.py` says what does not hold in the end, by SQLite, the files and the PACS, without the
node's code.
"""
