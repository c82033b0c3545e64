"""The section [audit]: where the node sends DICOM audit messages."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from node.config.base import Host, Port, Section


class AuditTLS(Section):
    """What proves who is who. Without `ca_file` the authorities of the system count."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("give cert_file and key_file, or neither")
        return self


class AuditSettings(Section):
    host: Host
    port: Port = 6514
    transport: Literal["tls", "tcp", "udp"] = "tls"
    patient_id: bool = False
    enterprise_site: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    tls: AuditTLS = AuditTLS()

    @property
    def entry(self) -> str:
        """The collector, as people name it."""
        return f"[audit] {self.host}:{self.port}, {self.transport}"
