"""Settings: one TOML file, environment variables on top of it, unknown keys are errors.

The file is named by `--config`, else `DIFFMSR_NODE_CONFIG`, else `./node.toml`, else `/etc/diffmsr-node/node.toml`.
Any key can be set from the environment: `DIFFMSR_NODE_SCP__PORT=11113` sets `[scp] port`. Every key is explained in
`config/node.toml`, which `diffmsr-node init` copies.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from node.errors import ConfigError, NotFoundError
from node.site_rules import ContrastLabel, SiteRule, contradictions

ENVIRONMENT_VARIABLE = "DIFFMSR_NODE_CONFIG"
SYSTEM_CONFIG = Path("/etc/diffmsr-node/node.toml")


def _ae_title(value: str) -> str:
    title = value.strip()
    if not 1 <= len(title) <= 16 or any(not 32 <= ord(c) < 127 or c == "\\" for c in title):
        raise ValueError("an AE title is 1 to 16 printable ASCII characters without backslash (PS3.5, VR AE)")
    return title


AETitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]


TransferSyntaxName = Literal["explicit", "implicit", "jpeg_ls", "jpeg_2000", "rle"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSettings(Section):
    data_dir: Path = Path("/var/lib/diffmsr-node")
    database_url: str | None = None
    database_url_file: Path | None = None
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


class TLSSettings(Section):
    cert_file: Path
    key_file: Path
    ca_file: Path | None = None


class SCPSettings(Section):
    ae_title: AETitle = "DIFFMSR"
    host: str = "0.0.0.0"
    port: Port = 11112
    require_called_ae_title: bool = False
    max_associations: Annotated[int, Field(ge=1)] = 20
    max_pdu: Annotated[int, Field(ge=0)] = 65536
    max_instance_mb: Annotated[int, Field(ge=1)] = 2048
    acse_timeout_s: Seconds = 30
    dimse_timeout_s: Seconds = 30
    network_timeout_s: Seconds = 60
    tls: TLSSettings | None = None


class SourceSettings(Section):
    name: str
    ae_title: AETitle
    host: str | None = None
    port: Port | None = None
    tls: TLSSettings | None = None
    timeout_s: Seconds = 30


class DestinationSettings(Section):
    name: str
    ae_title: AETitle
    host: str
    port: Port = 104
    tls: TLSSettings | None = None
    timeout_s: Seconds = 30
    max_attempts: Annotated[int, Field(ge=1)] = 297
    initial_delay_s: Seconds = 5
    max_delay_s: Seconds = 900
    commitment: bool = False
    commitment_timeout_s: Seconds = 3600
    commitment_fallback: Literal["none", "find"] = "none"


class FetchSettings(Section):
    ae_title: AETitle
    host: str
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
    study_max_wait_s: Seconds = 24 * 3600


class StackLimits(Section):
    """What a stack of slices must be, whatever part it plays."""

    min_slices: Annotated[int, Field(ge=1)] = 3
    max_matrix: Annotated[int, Field(ge=1)] = 4096
    duplicate_mm: Positive = 0.01
    gap_factor: Annotated[float, Field(gt=1)] = 1.5
    max_step_deviation: Positive = 0.05
    max_drift_mm: Positive = 0.5
    localizer_angle_deg: Annotated[float, Field(gt=0, lt=90)] = 30


class ContrastRules(Section):
    """Where the contrasts part: echo, repetition and inversion times in milliseconds."""

    flair_min_ti_ms: Positive = 1500
    flair_min_te_ms: Positive = 70
    stir_min_ti_ms: Positive = 80
    stir_max_ti_ms: Positive = 300
    inversion_t1_max_te_ms: Positive = 40
    gradient_t1_max_te_ms: Positive = 10
    gradient_t1_max_tr_ms: Positive = 800
    long_min_tr_ms: Positive = 1800
    t2_min_te_ms: Positive = 70
    pd_max_te_ms: Positive = 40
    t1_max_tr_ms: Positive = 1200
    t1_max_te_ms: Positive = 35
    fat_suppression_options: list[str] = ["FS", "SFS", "FAT_SAT", "FATSAT", "FAT SAT", "WE", "SPIR", "SPAIR"]


class TargetLimits(Section):
    """What a stack must be to be super-resolved."""

    interpolated: Literal["crop", "refuse"] = "crop"
    max_interpolation: Annotated[float, Field(ge=1)] = 1.2
    min_matrix: Annotated[int, Field(ge=1)] = 16
    min_output_spacing_mm: Positive = 0.1


class PairingLimits(Section):
    """How well a reference must lie on its target."""

    max_angle_deg: Annotated[float, Field(gt=0, lt=90)] = 1
    max_voxel_ratio: Annotated[float, Field(ge=1)] = 2
    plane_distance_mm: Positive = 1
    max_spacing_ratio: Positive = 2
    warn_spacing_ratio: Positive = 1.25
    min_coverage: Annotated[float, Field(gt=0, le=1)] = 0.95
    min_volume_coverage: Annotated[float, Field(gt=0, le=1)] = 0.65

    @model_validator(mode="after")
    def _warn_before_refusing(self) -> Self:
        if self.warn_spacing_ratio > self.max_spacing_ratio:
            raise ValueError("warn_spacing_ratio must not be above max_spacing_ratio")
        return self


class MatchSettings(Section):
    targets: Annotated[list[ContrastLabel], Field(min_length=1)] = ["T2", "T2-FLAIR"]
    references: Annotated[list[ContrastLabel], Field(min_length=1)] = ["T1"]
    description_vetoes: list[str] = [
        "localizer", "localiser", "localizers", "scout", "survey", "pilot", "calibration", "phase", "dwi", "diffusion",
        "adc", "dti", "mip", "map", "fieldmap", "bold", "fmri", "perfusion", "asl", "swi", "tof", "mra", "ai sr",
    ]  # fmt: skip
    lossy: Literal["refuse", "accept"] = "refuse"
    stack: StackLimits = StackLimits()
    contrast: ContrastRules = ContrastRules()
    target: TargetLimits = TargetLimits()
    pairing: PairingLimits = PairingLimits()
    rules: list[SiteRule] = []

    @model_validator(mode="after")
    def _rules_agree(self) -> Self:
        mistakes = list(contradictions(self.rules))
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @model_validator(mode="after")
    def _one_part_each(self) -> Self:
        both = sorted(set(self.targets) & set(self.references))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be both target and reference")
        return self

    def veto(self, series_description: str | None) -> str | None:
        """The first of the description vetoes that a series description holds as whole words."""
        words = _words(series_description or "")
        return next((veto for veto in self.description_vetoes if _words(veto) in words), None)


def _words(text: str) -> str:
    return " ".join(["", *re.findall(r"[^\W_]+", text.lower()), ""])


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


class ModelSettings(Section):
    path: Path | None = None
    device: str = "auto"
    batch_slices: Annotated[int, Field(ge=1)] = 4
    precision: Literal["float32", "bfloat16"] = "float32"
    data_consistency: bool = False
    max_attempts: Annotated[int, Field(ge=1)] = 3


class ReportSettings(Section):
    """What is measured of a result, what makes it not usable, and how it is said."""

    sop_class: Literal["comprehensive_3d", "comprehensive", "none"] = "comprehensive_3d"
    ensemble: Annotated[int, Field(ge=1, le=16)] = 1
    max_inconsistency: Positive = 0.15
    max_intensity_drift: Positive = 0.07
    max_seed_spread: Positive = 0.01
    max_displacement_mm: Positive = 2
    hold: bool = False


class OutputSettings(Section):
    sop_class: Literal["mr", "sc", "legacy_enhanced"] = "mr"
    transfer_syntax: TransferSyntaxName = "explicit"
    series_description_prefix: Annotated[str, Field(max_length=32)] = "AI SR x4: "
    series_number_offset: Annotated[int, Field(ge=0)] = 9000
    synthetic_data: bool = True
    presentation_state: bool = False


class StorageSettings(Section):
    reserve_gb: Annotated[float, Field(ge=0)] = 2.0


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
    model: ModelSettings = ModelSettings()
    report: ReportSettings = ReportSettings()
    output: OutputSettings = OutputSettings()
    storage: StorageSettings = StorageSettings()

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


def find_config(given: Path | None) -> Path:
    """The configuration file to use; ConfigError when there is none."""
    if given is None and os.environ.get(ENVIRONMENT_VARIABLE):
        given = Path(os.environ[ENVIRONMENT_VARIABLE])
    candidates = [given] if given else [Path("node.toml"), SYSTEM_CONFIG]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    looked = ", ".join(str(c) for c in candidates)
    raise ConfigError(f"no configuration file at {looked}; write one with: diffmsr-node init --config {candidates[0]}")


def load_settings(path: Path) -> Settings:
    """Read and validate a configuration file; relative paths in it are relative to it.

    Raises ConfigError naming the file, the key, what is wrong and the value's type of mistake.
    """
    try:
        values = TomlConfigSettingsSource(Settings, toml_file=path).toml_data
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    _anchor_paths(values, path.parent)
    try:
        return Settings(**values)
    except ValidationError as error:
        lines = [f"{path}: {_where(e['loc'])}: {_what(e)}" for e in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _anchor_paths(table: dict[str, Any], folder: Path) -> None:
    """Resolve relative paths against the configuration file's folder, not the working directory of the service."""
    for key, value in table.items():
        if isinstance(value, dict):
            _anchor_paths(value, folder)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    _anchor_paths(item, folder)
        elif (
            isinstance(value, str)
            and value
            and key in {"data_dir", "path", "database_url_file", "cert_file", "key_file", "ca_file"}
        ):
            table[key] = str(folder / Path(value).expanduser())


def _where(location: tuple[int | str, ...]) -> str:
    if not location:
        return "the file as a whole"
    section, *rest = location
    return " ".join([f"[{section}]", *[str(part) if isinstance(part, str) else f"#{part + 1}" for part in rest]])


def _what(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown key; see config/node.toml for the keys there are"
    return str(error["msg"]).removeprefix("Value error, ")


def template() -> str:
    """The commented configuration that `init` writes: config/node.toml of the source tree, or its packaged copy."""
    packaged = Path(__file__).parent / "_config" / "node.toml"
    source = Path(__file__).parents[1] / "config" / "node.toml"
    return (packaged if packaged.is_file() else source).read_text()
