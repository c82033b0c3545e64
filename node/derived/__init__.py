"""Derive: a result and the headers of its sources become DICOM instances and a page to read."""
