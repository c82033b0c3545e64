"""One rule for what a UID is."""

import re

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def is_uid(value: str) -> bool:
    """Whether `value` is a UID by form (PS3.5 section 9.1; leading zeros, which real files have, are let through).
    Only such values ever become part of a file name."""
    return len(value) <= 64 and _UID.fullmatch(value) is not None
