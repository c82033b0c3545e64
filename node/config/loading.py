"""Read the configuration file, and say what is wrong with it.

Any key can be set from the environment: `DIFFMSR_NODE_SCP__PORT=11113` sets `[scp] port`. Every key is explained in
`config/node.toml`, which `diffmsr-node init` copies.
"""

import difflib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ValidationError
from pydantic_settings import TomlConfigSettingsSource

from node.config.place import ENVIRONMENT_VARIABLE
from node.config.settings import Settings
from node.errors import ConfigError

_PATHS = frozenset(
    {
        "data_dir",
        "archive",
        "path",
        "database_url_file",
        "cert_file",
        "key_file",
        "ca_file",
        "users_file",
        "password_file",
        "urls_file",
    }
)
"""Keys whose values are paths."""

RENAMED_KEYS: Mapping[tuple[str, ...], str] = {
    ("match", "pairing", "plane_distance_mm"): "max_plane_distance_mm",
}
"""The place of an old key, and its new name in the same table. The old name is accepted for one release, with a warning."""


def warn_on_stderr(text: str) -> None:
    sys.stderr.write(f"warning: {text}\n")


def load_settings(path: Path, warn: Callable[[str], None] = warn_on_stderr) -> Settings:
    """Read and validate a configuration file; relative paths in it are relative to it. `warn` is called with a sentence
    for each key that has a new name, and for a password that the next release refuses.

    Raises ConfigError naming the file, the key and what is wrong.
    """
    try:
        values = TomlConfigSettingsSource(Settings, toml_file=path).toml_data
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    _refuse_secrets(values, path)
    for sentence in (*_rename_keys(values, path), *_rename_variables(), *_exposed_secrets(values, path)):
        warn(sentence)
    _anchor_paths(values, path.parent)
    _refuse_unknown_variables()
    try:
        return Settings(**values)
    except ValidationError as error:
        lines = [": ".join([str(path), *_where(e["loc"]), _what(e)]) for e in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _rename_keys(values: dict[str, Any], path: Path) -> Iterator[str]:
    """Give keys of the file their new names; a sentence for each."""
    for (*section, old), new in RENAMED_KEYS.items():
        for table in _tables(values, section):
            if old in table:
                table.setdefault(new, table.pop(old))
                yield f"{path}: [{'.'.join(section)}] {old} is now called {new}; the next release reads only {new}"


def _rename_variables() -> Iterator[str]:
    """The same for keys that are set from the environment."""
    prefix = Settings.model_config.get("env_prefix", "")
    for (*section, old), new in RENAMED_KEYS.items():
        before, after = (f"{prefix}{'__'.join([*section, key]).upper()}" for key in (old, new))
        if before in os.environ:
            os.environ.setdefault(after, os.environ.pop(before))
            yield f"{before} is now called {after}; the next release reads only {after}"


def _tables(values: dict[str, Any], section: list[str]) -> Iterator[dict[str, Any]]:
    """Every table of that name: one for [section], as many as there are for [[section]]."""
    if not section:
        yield values
        return
    below = values.get(section[0])
    for table in below if isinstance(below, list) else [below]:
        if isinstance(table, dict):
            yield from _tables(table, section[1:])


def _anchor_paths(table: dict[str, Any], folder: Path) -> None:
    """Resolve relative paths against the configuration file's folder, not the working directory of the service."""
    for key, value in table.items():
        if isinstance(value, dict):
            _anchor_paths(value, folder)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    _anchor_paths(item, folder)
        elif isinstance(value, str) and value and key in _PATHS and "://" not in value:
            table[key] = str(folder / Path(value).expanduser())


def _refuse_secrets(values: dict[str, Any], path: Path) -> None:
    """What holds a password is not written into the configuration itself, which people copy and send around."""
    notify = values.get("notify")
    if isinstance(notify, dict) and "urls" in notify:
        raise ConfigError(
            f"{path}: [notify] urls: addresses hold passwords; write them into a file of their own and name it with urls_file, or "
            "set DIFFMSR_NODE_NOTIFY__URLS in the environment"
        )


def _exposed_secrets(values: dict[str, Any], path: Path) -> Iterator[str]:
    """Passwords that were allowed in the configuration until now."""
    node = values.get("node")
    if isinstance(node, dict) and _holds_password(node.get("database_url")):
        yield (
            f"{path}: [node] database_url holds a password; write the address into a file of its own and name it with "
            "database_url_file, or set DIFFMSR_NODE_NODE__DATABASE_URL in the environment. The next release refuses it here"
        )


def _holds_password(url: object) -> bool:
    """Whether the address of a database holds one, in its usual place or among the parameters."""
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url)
        return parts.password is not None or "password" in str(parse_qsl(parts.query)).lower()
    except ValueError:  # said where the address is used
        return False


def _where(location: tuple[int | str, ...]) -> list[str]:
    """The section and the key; nothing where the sentence itself names them."""
    if not location:
        return []
    section, *rest = location
    return [" ".join([f"[{section}]", *[str(part) if isinstance(part, str) else f"#{part + 1}" for part in rest]])]


_TYPES = {
    "string_type": "text in quotes",
    "path_type": "a path in quotes",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list in square brackets",
    "dict_type": "a table",
    "model_type": "a table",
    "int_from_float": "a whole number",
}
"""What pydantic calls the wrong types, in words for people."""


def _what(error: Any) -> str:
    kind, location = error["type"], error["loc"]
    if kind == "extra_forbidden":
        alike = difflib.get_close_matches(str(location[-1]), _keys_beside(location), n=1, cutoff=0.5)
        return (
            f"unknown key; did you mean {alike[0]}?"
            if alike
            else "unknown key; see config/node.toml for the keys there are"
        )
    if kind == "list_type" and isinstance(error["input"], dict):
        return f"write [[{location[-1]}]], in double brackets"
    if kind == "missing":
        return "is missing"
    if kind in ("int_parsing", "float_parsing", "int_type", "float_type"):
        return f"must be a number, not {error['input']!r}"
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "literal_error":
        return f"must be {error['ctx']['expected']}, not {error['input']!r}"
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}, not {error['input']!r}"
    said = str(error["msg"]).removeprefix("Value error, ")
    return (
        f"{said.replace('Input should be', 'must be', 1)}, not {error['input']!r}"
        if said.startswith("Input should be")
        else said
    )


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table of this location may have."""
    table: type[BaseModel] = Settings
    for part in location[:-1]:
        if isinstance(part, str) and part in table.model_fields:
            inner = _table_of(table.model_fields[part].annotation)
            if inner is None:
                return []
            table = inner
    return list(table.model_fields)


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds: itself, one of several, or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _table_of(part))), None)


def _refuse_unknown_variables() -> None:
    """A variable whose section is unknown is an error, as an unknown key of the file is."""
    prefix = str(Settings.model_config.get("env_prefix", ""))
    for name in sorted(os.environ):
        section = name.removeprefix(prefix).partition("__")[0].lower()
        if name.startswith(prefix) and name != ENVIRONMENT_VARIABLE and section not in Settings.model_fields:
            alike = difflib.get_close_matches(section, Settings.model_fields, n=1)
            hint = (
                f"did you mean {prefix}{alike[0].upper()}__...?" if alike else "see config/node.toml for the sections"
            )
            raise ConfigError(f"environment variable {name}: there is no section [{section}]; {hint}")


def template() -> str:
    """The commented configuration that `init` writes."""
    return _shipped("config", "node.toml")


def unit_template() -> str:
    """The systemd unit that `init --systemd` fills in."""
    return _shipped("deploy", "diffmsr-node.service")


def _shipped(folder: str, name: str) -> str:
    """A file of the source tree, or its packaged copy."""
    packaged = Path(__file__).parents[1] / f"_{folder}" / name
    source = Path(__file__).parents[2] / folder / name
    return (packaged if packaged.is_file() else source).read_text()
