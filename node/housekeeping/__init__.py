"""Housekeeping: work that happens by the clock."""
