"""Deliver: send derived series to their destinations."""
