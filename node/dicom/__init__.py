"""One answer per question about DICOM data: what a UID is, what an attribute says, where an image is."""
