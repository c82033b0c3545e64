"""DiffMSR node: a DICOM node beside a PACS that super-resolves T2 series. For research use only."""

__version__ = "0.1.0"

MANUFACTURER = "DiffMSR node project"
"""Manufacturer (0008,0070) of everything the node makes, by which it knows its own output again."""
