"""How the C library hands out memory, which decides a good part of a CPU's time in the network."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
KEPT = 512 * 2**20
"""Free bytes at the end of the heap above which memory goes back to the system."""
LARGEST = 32 * 2**20
"""Blocks up to this size come from the heap; glibc allows no more."""


def keep_freed_memory() -> None:
    """Keep the memory that one layer frees for the next, for the whole process.

    By itself glibc returns it to the system and gets it back page by page, each with a fault: at 128 x 128 the fast
    network then takes 1.4 times as long (preset `small`, two threads). Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, KEPT)
