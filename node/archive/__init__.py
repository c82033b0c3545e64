"""The archive: everything durable that is not a row of the tracker.

Rows name what is here by key (`layout.py`). Where the bytes are, a local folder (`local.py`) or an object store
(`objects.py`), only this package knows; nobody else makes a path of a key.
"""
