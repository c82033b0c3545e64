"""How the C library hands out memory. A good part of a network's time on a CPU depends on it."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
KEPT = 512 * 2**20
"""Free bytes at the end of the heap above which memory returns to the system."""
LARGEST = 32 * 2**20
"""Blocks up to this size come from the heap. glibc allows no larger value."""


def keep_freed_memory() -> None:
    """Keep the memory that one layer frees for the next layer, in the whole process.

    By default glibc returns it to the system and gets it back page by page, with a page fault each. At 128 x 128 the fast
    network then takes 1.4 times as long (preset `small`, two threads). Other C libraries are left unchanged.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, KEPT)
