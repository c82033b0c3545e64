"""Hostile and broken peers, written with plain sockets: no DICOM library takes the edge off what they send."""
