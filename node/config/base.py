"""Types that sections of the configuration share."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _ae_title(value: str) -> str:
    title = value.strip()
    if not 1 <= len(title) <= 16 or any(not 32 <= ord(c) < 127 or c == "\\" for c in title):
        raise ValueError("an AE title is 1 to 16 printable ASCII characters without backslash (PS3.5, VR AE)")
    return title


def _fingerprint(value: str) -> str:
    plain = value.replace(":", "").strip().lower()
    if len(plain) != 64 or set(plain) - set("0123456789abcdef"):
        raise ValueError("a SHA-256 fingerprint is 64 hexadecimal digits, with or without colons")
    return plain


Fingerprint = Annotated[str, AfterValidator(_fingerprint)]


AETitle = Annotated[str, AfterValidator(_ae_title)]


def _name(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be printable characters, without spaces around them")
    return value


Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_name)]
"""What people call something. It is shown on terminals and pages, and is part of keys."""


def _short_text(value: str) -> str:
    if not value.isprintable() or "\\" in value:
        raise ValueError("must be printable characters without backslash (PS3.5, VR LO)")
    return value


ShortText = Annotated[str, AfterValidator(_short_text)]
"""What becomes part of a DICOM attribute of VR LO."""


def _host(value: str) -> str:
    try:
        if ":" in value:
            ip_address(value)  # of IPv6; a name has no colon
        elif re.fullmatch(r"\w([\w.-]*[\w.])?", value) is None:
            raise ValueError
        value.encode("idna")  # as a name is looked up; addresses pass, too
    except ValueError:  # UnicodeError is one
        raise ValueError("must be a host name or an address, without port and path") from None
    return value


Host = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_host)]
"""A host name or an address."""


def _web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        parsed = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:  # a malformed address or port
        parsed = False
    if not parsed or not value.isprintable() or " " in value:
        raise ValueError("must be an address such as https://pacs.example:8443/dicom-web")
    if "@" in value:
        raise ValueError("must not hold a user or a password")
    if "?" in value or "#" in value:
        raise ValueError("must not hold parameters, in which passwords would be shown")
    return value


WebAddress = Annotated[str, AfterValidator(_web_address)]
"""A URL of HTTP or HTTPS."""


Port = Annotated[int, Field(ge=1, le=65535)]


Seconds = Annotated[float, Field(gt=0)]


Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TLSSettings(Section):
    cert_file: Path
    key_file: Path
    ca_file: Path | None = None
