"""The section [notify]: who gets messages, about what, and how often."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from node.config.base import Positive, Section
from node.errors import ConfigError

Topic = Literal["failed", "unreachable", "disk", "certificate"]


class NotifySettings(Section):
    urls_file: Path | None = None
    urls: SecretStr | None = None
    """From the environment only: addresses hold passwords."""
    topics: Annotated[list[Topic], Field(min_length=1)] = ["failed", "unreachable", "disk", "certificate"]
    disk_gb: Annotated[float, Field(ge=0)] = 10
    certificate_days: Positive = 30
    pause_minutes: Positive = 15
    repeat_hours: Positive = 24

    @property
    def addresses(self) -> list[str]:
        """The addresses, which are secrets. ConfigError when the file cannot be read."""
        if self.urls_file is None:
            return [] if self.urls is None else self.urls.get_secret_value().split()
        try:
            lines = self.urls_file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigError(f"[notify] urls_file: cannot read {self.urls_file}: {reason}") from None
        return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.urls_file is None) == (self.urls is None):
            raise ValueError("set urls_file, or DIFFMSR_NODE_NOTIFY__URLS in the environment, not both")
        return self
