"""Figures that are measured and written down, never asserted: run by hand, on a quiet machine."""
