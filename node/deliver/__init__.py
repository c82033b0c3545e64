"""Deliver: turn a result into a derived MR series and send it to its destinations."""
