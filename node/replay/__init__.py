"""A study processed again, compared with what was kept."""
