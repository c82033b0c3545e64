"""config/node.toml is what an administrator reads: it has every key, with its default value, and words about it."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from node.config.loading import template
from node.config.settings import Settings

SECRET = {("notify", "urls")}
"""Keys that are set from the environment only; words of the file say so."""

REPEATED = {"name", "when", "then", "tag", "ae_title", "host", "cert_file", "key_file", "ca_file"}
"""Keys of examples: their meaning is in the words before the table, or in those of the first table that has them."""


def written() -> Iterator[tuple[str, str, Any, bool, bool]]:
    """Section, key, value, whether it is commented out, and whether it has words: before it, on its line, or before a key that
    stands directly above it."""
    section, words, lines = "", False, template().splitlines()
    for number, line in enumerate(lines):
        heading = re.fullmatch(r"(?:# )?\[\[?([a-z_.]+)\]\]?(?: +#.*)?", line)
        key = re.match(r"(?P<comment># )?(?P<key>[a-z_0-9]+) = (?P<value>.*)", line)
        if heading:
            section, words = heading[1], "  #" in line or (words and line.startswith("#"))
        elif key:
            value = key["value"]
            if value.endswith("["):
                value += "".join(lines[number + 1 : lines.index("]", number) + 1])
            words = words or "  #" in line
            yield section, key["key"], tomllib.loads(f"value = {value}")["value"], bool(key["comment"]), words
        else:
            words = line.startswith("#") or (words and bool(line))


def model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := model_of(part))), None)


def keys(model: type[BaseModel] = Settings, section: str = "") -> Iterator[tuple[str, str, Any]]:
    """Section, key and default of every key there is."""
    for name, field in model.model_fields.items():
        below = model_of(field.annotation)
        if below is None:
            yield section, name, field.default
        else:
            yield from keys(below, f"{section}.{name}".strip("."))


def test_every_key_is_there() -> None:
    named = {(section, key) for section, key, *_ in written()}
    missing = {(section, key) for section, key, _ in keys() if not section.startswith("match.rules")} - named - SECRET
    assert not missing


def test_nothing_is_there_that_is_no_key() -> None:
    known = {(section, key) for section, key, _ in keys()}
    assert {(section, key) for section, key, *_ in written() if not section.startswith("match.rules")} <= known


def test_every_default_is_the_default() -> None:
    defaults = {(section, key): default for section, key, default in keys()}
    for section, key, value, commented, _ in written():
        default = defaults.get((section, key), PydanticUndefined)
        if default in (PydanticUndefined, None, "") or (commented and isinstance(default, list)):
            continue  # an example: there is no default
        assert default == (type(default)(value) if isinstance(default, Path) else value), f"[{section}] {key}"


def test_every_key_is_explained() -> None:
    silent = {f"[{section}] {key}" for section, key, _, _, said in written() if not said and key not in REPEATED}
    assert not silent
