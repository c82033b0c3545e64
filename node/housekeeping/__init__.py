"""Housekeeping: what happens by the clock."""
