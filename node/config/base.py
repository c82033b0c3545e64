"""Types that sections of the configuration share."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _ae_title(value: str) -> str:
    title = value.strip()
    if not 1 <= len(title) <= 16 or any(not 32 <= ord(c) < 127 or c == "\\" for c in title):
        raise ValueError("an AE title is 1 to 16 printable ASCII characters without backslash (PS3.5, VR AE)")
    return title


AETitle = Annotated[str, AfterValidator(_ae_title)]


Host = Annotated[str, Field(min_length=1, max_length=253)]
"""A host name or an address."""


Port = Annotated[int, Field(ge=1, le=65535)]


Seconds = Annotated[float, Field(gt=0)]


Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TLSSettings(Section):
    cert_file: Path
    key_file: Path
    ca_file: Path | None = None
