"""The sections of `config/node.toml`, in its order. Unknown keys are errors."""

import difflib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from node.codes import CODES
from node.config.audit import AuditSettings
from node.config.base import (
    AETitle,
    Fingerprint,
    Host,
    Name,
    Port,
    Positive,
    Seconds,
    Section,
    ShortText,
    TLSSettings,
    WebAddress,
)
from node.config.match import MatchSettings
from node.config.notify import NotifySettings
from node.config.web import WebSettings
from node.errors import ConfigError, NotFoundError

Grade = Literal["usable", "not usable"]

SOPClass = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)+$", max_length=64)]

TransferSyntaxName = Literal["explicit", "implicit", "jpeg_ls", "jpeg_2000", "rle"]


class NodeSettings(Section):
    data_dir: Path = Path("/var/lib/diffmsr-node")
    database_url: str | None = None
    database_url_file: Path | None = None
    index_patient: bool = True
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the tracker: the one given, the one in the secret file, or SQLite in `data_dir`."""
        if self.database_url_file is not None:
            try:
                return self.database_url_file.read_text().strip()
            except OSError as error:
                raise ConfigError(
                    f"[node] database_url_file: cannot read {self.database_url_file}: {error.strerror}"
                ) from None
        return self.database_url or f"sqlite:///{self.data_dir / 'tracker.sqlite3'}"

    @model_validator(mode="after")
    def _one_url(self) -> Self:
        if self.database_url and self.database_url_file:
            raise ValueError("give database_url or database_url_file, not both")
        return self


class SCPSettings(Section):
    ae_title: AETitle = "DIFFMSR"
    host: Host = "0.0.0.0"
    port: Port = 11112
    require_called_ae_title: bool = False
    max_associations: Annotated[int, Field(ge=1)] = 20
    max_associations_per_address: Annotated[int, Field(ge=1)] = 10
    max_associations_per_ae_title: Annotated[int, Field(ge=1)] = 10
    max_waiting: Annotated[int, Field(ge=1)] = 64
    max_waiting_per_address: Annotated[int, Field(ge=1)] = 16
    max_commitment_requests: Annotated[int, Field(ge=1)] = 100
    max_pdu: Annotated[int, Field(ge=4096, le=1 << 24)] = 65536
    max_instance_mb: Annotated[int, Field(ge=1)] = 2048
    acse_timeout_s: Seconds = 30
    dimse_timeout_s: Seconds = 30
    network_timeout_s: Seconds = 60
    keep_other: Literal["drop", "keep"] = "drop"
    private_sop_classes: Literal["all"] | list[SOPClass] = "all"
    data_path: Literal["fast", "stock"] = "fast"
    tls: TLSSettings | None = None


class SourceSettings(Section):
    name: Name
    ae_title: AETitle
    host: Host | None = None
    port: Port | None = None
    certificate_cn: Annotated[str, Field(min_length=1)] | None = None
    certificate_sha256: Fingerprint | None = None
    tls: TLSSettings | None = None
    timeout_s: Seconds = 30


class DestinationSettings(Section):
    """A PACS: by AE title, host and port, or by the `url` of a DICOMweb server."""

    name: Name
    ae_title: AETitle = ""
    host: Host = ""
    port: Port = 104
    url: WebAddress | None = None
    user: str | None = None
    password_file: Path | None = None
    tls: TLSSettings | None = None
    timeout_s: Seconds = 30
    associations: Annotated[int, Field(ge=1, le=16)] = 1
    outstanding: Annotated[int, Field(ge=1, le=64)] = 8
    give_up_h: Positive = 72
    max_attempts: Annotated[int, Field(ge=1)] = 400
    initial_delay_s: Seconds = 5
    max_delay_s: Seconds = 900
    only: list[Grade] = []
    """Grades of the results that it gets; all when empty."""
    codes: list[str] = []
    """It gets only results that carry a warning with one of these codes; all when empty."""
    commitment: bool = False
    commitment_timeout_s: Seconds = 3600
    commitment_fallback: Literal["none", "find"] = "none"

    def wants(self, usable: bool, codes: Collection[str]) -> bool:
        """Whether it gets results of that grade that carry warnings with these codes."""
        of_grade = not self.only or ("usable" if usable else "not usable") in self.only
        return of_grade and (not self.codes or not set(self.codes).isdisjoint(codes))

    @field_validator("codes")
    @classmethod
    def _known_codes(cls, codes: list[str]) -> list[str]:
        for code in codes:
            if code not in CODES or not code.startswith("W_"):
                alike = difflib.get_close_matches(code, [name for name in CODES if name.startswith("W_")], n=1)
                hint = f"did you mean {alike[0]}?" if alike else "see: diffmsr-node codes"
                raise ValueError(f"{code!r} is not the code of a warning; {hint}")
        return codes

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.url is None and not (self.ae_title and self.host):
            raise ValueError("give ae_title and host, or the url of a DICOMweb server")
        if self.url is not None and (self.ae_title or self.host):
            raise ValueError("give ae_title and host, or url, not both")
        if self.url is not None and self.commitment:
            raise ValueError("commitment is for ae_title and host; with url the answer to each instance is what counts")
        if self.url is None and (self.user or self.password_file):
            raise ValueError("user and password_file are for url")
        return self


class FetchSettings(Section):
    ae_title: AETitle
    host: Host
    port: Port = 104
    tls: TLSSettings | None = None
    timeout_s: Seconds = 30
    method: Literal["get", "move"] = "get"
    max_series: Annotated[int, Field(ge=1)] = 4
    max_instances: Annotated[int, Field(ge=1)] = 1000
    max_attempts: Annotated[int, Field(ge=1)] = 30
    initial_delay_s: Seconds = 60
    max_delay_s: Seconds = 3600


class CompletionSettings(Section):
    series_quiet_s: Seconds = 10
    association_quiet_s: Seconds = 60
    study_max_wait_s: Seconds = 24 * 3600


class RegistrationSettings(Section):
    """What to do about a patient who moved between the two series."""

    mode: Literal["none", "warn", "correct", "refuse"] = "correct"
    tolerance_mm: Positive = 0.2
    limit_mm: Positive = 5
    max_spread_mm: Positive = 1

    @model_validator(mode="after")
    def _tolerate_less_than_the_limit(self) -> Self:
        if self.tolerance_mm > self.limit_mm:
            raise ValueError("tolerance_mm must not be above limit_mm")
        return self


class AcquisitionSettings(Section):
    """Which sources tell how a target was acquired, and what of it is undone."""

    header: bool = True
    spectrum: bool = True
    crop: bool = True
    filter: bool = True
    partial_fourier: bool = True


def _devices(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    if len(names) > 1 and {"auto", "all"} & set(names):
        raise ValueError('"auto" and "all" stand alone')
    if not all(re.fullmatch(r"auto|all|cpu|cuda(:\d+)?", name) for name in names):
        raise ValueError('a device is "auto", "all", "cpu", "cuda" or "cuda:1"; several are separated by commas')
    if len(set(names)) < len(names):
        raise ValueError("a device is named twice")
    return ",".join(names)


class ModelSettings(Section):
    weights: Literal["small", "small-without-diffusion"] = "small"
    """Those of the package; `path` names others."""
    path: Path | None = None
    device: Annotated[str, AfterValidator(_devices)] = "auto"
    batch_slices: Annotated[int, Field(ge=1)] = 4
    threads: Annotated[int, Field(ge=0)] = 0
    """Slices computed side by side on a CPU; 0 is one per core."""
    precision: Literal["float32", "bfloat16"] = "float32"
    data_consistency: bool = False
    trust: bool = True
    max_attempts: Annotated[int, Field(ge=1)] = 3
    stall_s: Seconds = 600

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices by name; ("auto",) or ("all",) where the machine decides."""
        return tuple(self.device.split(","))


class ReportSettings(Section):
    """What is measured of a result, what makes it not usable, and how it is reported."""

    sop_class: Literal["comprehensive_3d", "comprehensive", "none"] = "comprehensive_3d"
    ensemble: Annotated[int, Field(ge=1, le=16)] = 1
    max_inconsistency: Positive = 0.15
    max_intensity_drift: Positive = 0.07
    max_seed_spread: Positive = 0.01
    max_displacement_mm: Positive = 2
    max_expected_error: Positive = 0.35
    hold: bool = False


class OutputSettings(Section):
    sop_class: Literal["mr", "sc", "legacy_enhanced"] = "mr"
    transfer_syntax: TransferSyntaxName = "explicit"
    series_description_prefix: Annotated[ShortText, Field(max_length=32)] = "AI SR x4: "
    series_number_offset: Annotated[int, Field(ge=0)] = 9000
    synthetic_data: bool = True
    presentation_state: bool = False
    parametric_map: bool = False
    rejection_note: Literal["none", "quality", "patient_safety"] = "none"


class StorageSettings(Section):
    archive: str | None = None
    """A folder, or s3://BUCKET/PREFIX; None is [node] data_dir."""
    endpoint_url: WebAddress | None = None
    reserve_gb: Annotated[float, Field(ge=0)] = 2.0
    retention_days: Positive | None = None
    failed_retention_days: Positive | None = None
    watermark_percent: Annotated[float, Field(gt=0, lt=100)] | None = None

    @model_validator(mode="after")
    def _a_known_kind_of_place(self) -> Self:
        if self.archive is not None and "://" in self.archive and not self.archive.startswith("s3://"):
            raise ValueError("archive is a folder, or s3://BUCKET or s3://BUCKET/PREFIX")
        return self


class TracingSettings(Section):
    """Where OpenTelemetry traces go."""

    endpoint: WebAddress


class Settings(BaseSettings):
    """The whole configuration, in the order of `config/node.toml`."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="DIFFMSR_NODE_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    node: NodeSettings = NodeSettings()
    scp: SCPSettings = SCPSettings()
    sources: list[SourceSettings] = []
    destinations: list[DestinationSettings] = []
    fetch: FetchSettings | None = None
    completion: CompletionSettings = CompletionSettings()
    match: MatchSettings = MatchSettings()
    registration: RegistrationSettings = RegistrationSettings()
    acquisition: AcquisitionSettings = AcquisitionSettings()
    model: ModelSettings = ModelSettings()
    report: ReportSettings = ReportSettings()
    output: OutputSettings = OutputSettings()
    storage: StorageSettings = StorageSettings()
    web: WebSettings = WebSettings()
    notify: NotifySettings | None = None
    audit: AuditSettings | None = None
    tracing: TracingSettings | None = None

    @property
    def archive_folder(self) -> Path | None:
        """The folder in which the archive is; None where that is a bucket."""
        place = self.storage.archive
        if place is None:
            return self.node.data_dir
        return None if "://" in place else Path(place)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @model_validator(mode="after")
    def _certificates_are_asked_for(self) -> Self:
        asked_for = self.scp.tls is not None and self.scp.tls.ca_file is not None
        for source in self.sources:
            if (source.certificate_cn or source.certificate_sha256) and not asked_for:
                raise ValueError(
                    f"[[sources]] {source.name}: a certificate is only shown when [scp.tls] ca_file is set; set it, or "
                    "remove certificate_cn and certificate_sha256"
                )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for kind, names in (
            ("sources", [s.name for s in self.sources]),
            ("destinations", [d.name for d in self.destinations]),
        ):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"[[{kind}]] name {', '.join(sorted(twice))} is used twice; names must differ")
        return self

    def destination(self, name: str) -> DestinationSettings:
        """The destination of that name, or NotFoundError naming those there are."""
        for destination in self.destinations:
            if destination.name == name:
                return destination
        known = ", ".join(d.name for d in self.destinations) or "none is configured"
        raise NotFoundError(f"no [[destinations]] is named {name!r}; known: {known}")
