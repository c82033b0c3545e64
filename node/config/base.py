"""Types that sections of the configuration share."""

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


def _host(value: str) -> str:
    try:
        if not value.isprintable() or " " in value:
            raise ValueError
        value.encode("idna")  # as a name is looked up; addresses pass, too
    except ValueError:  # UnicodeError is one
        raise ValueError("must be a host name or an address") from None
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
