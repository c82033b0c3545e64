"""DiffMSR node: a DICOM node beside a PACS that super-resolves T2 series. For research use only."""

__version__ = "0.1.0"
