"""Acquisitions by name, as an evaluation measures them, and what a header says about each."""

from dataclasses import replace

from diffmsr.acquisition.model import FULL, Acquisition, Filter

TYPICAL = replace(FULL, extent=(0.8, 1.0), ellipse=True, filter=Filter("fermi", 0.06), noise=0.01)

NAMED = {
    "clean": FULL,
    "phase80": replace(FULL, extent=(0.8, 1.0)),
    "pf68": replace(FULL, partial_fourier=(0.75, 1.0)),
    "ellipse": replace(FULL, ellipse=True),
    "fermi": replace(FULL, filter=Filter("fermi", 0.06)),
    "hamming": replace(FULL, filter=Filter("hamming", 0.92)),
    "noise3": replace(FULL, noise=0.03),
    "typical": TYPICAL,
    "typical-without-header": TYPICAL,
}
"""Of a stored matrix a quarter as large as the truth's. The phase axis lies along rows of pixels that follow each other
down the image (axis 0)."""


def header_of(name: str) -> Acquisition:
    """What the header of a named acquisition says: the acquired matrix and the partial Fourier fraction, never filter,
    shutter, noise or how the missing side was filled; `-without-header` says nothing. Raises KeyError."""
    if name.endswith("-without-header"):
        return Acquisition()
    whole = NAMED[name]
    return Acquisition(extent=whole.extent, partial_fourier=whole.partial_fourier)
