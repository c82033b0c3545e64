"""DICOM audit messages (PS3.15 A.5) to a collector: `message.py` says what was done in the words of the standard, `syslog.py` brings
it there, and `forwarder.py` decides when, and remembers what has arrived."""
