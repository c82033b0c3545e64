"""DIMSE: what the stages share of DICOM's message exchange (PS3.7). Associations we open, queries, storage commitment,
and what every status code means."""
