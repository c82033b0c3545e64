"""A study once more, compared with what was kept of it."""
