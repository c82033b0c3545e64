"""The page: what the node does and why, the result beside what it was made from, and an administrator's acts.

It reads the tracker's views and the archive, and never a stage: it computes no image and imports neither torch nor
`diffmsr`. The service hands it what only the service knows (`site.py`).
"""
