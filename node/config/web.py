"""The section [web]: the page, who may see it, and what they may do."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, IPvAnyNetwork, model_validator

from node.config.base import Host, Port, Positive, Section, TLSSettings

WebRole = Literal["view", "operate", "phi"]
"""What a user may do: see the pages; act on jobs; see who the patient is. `operate` and `phi` include `view`."""


class WebSettings(Section):
    enabled: bool = True
    host: Host = "127.0.0.1"
    port: Port = 8090
    users_file: Path | None = None
    session_idle_minutes: Positive = 30
    session_hours: Positive = 12
    proxy_addresses: list[IPvAnyNetwork] = []
    proxy_user_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = "X-Remote-User"
    proxy_roles: list[WebRole] = ["view"]
    dicomweb: bool = False
    """Whether images can be read by QIDO-RS and WADO-RS, below /dicom-web."""
    max_upload_mb: Annotated[int, Field(ge=1)] = 512
    tls: TLSSettings | None = None

    @property
    def open_to_all(self) -> bool:
        """Whether nobody logs in: then the page shows no patient data, and nothing can be changed on it."""
        return self.users_file is None and not self.proxy_addresses

    @model_validator(mode="after")
    def _log_in_beyond_loopback(self) -> Self:
        if self.open_to_all and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines, so people have to log in: set users_file or "
                'proxy_addresses, or host = "127.0.0.1"'
            )
        return self

    @model_validator(mode="after")
    def _log_in_to_images(self) -> Self:
        if self.dicomweb and self.open_to_all:
            raise ValueError(
                "dicomweb shows images with the names of patients, so people have to log in: set users_file or proxy_addresses"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
