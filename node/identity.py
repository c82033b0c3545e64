"""Who we are, in everything the node makes, and how it knows its own output again."""

MANUFACTURER = "DiffMSR node project"
"""Manufacturer (0008,0070) of everything the node makes."""

MODEL_NAME = "DiffMSR node"
"""ManufacturerModelName (0008,1090) of everything the node makes."""
