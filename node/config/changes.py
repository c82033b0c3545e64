"""What a reload takes over: the sections that a running service can change, and the ones that need a restart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.config.settings import Settings

RELOADED = ("sources", "destinations", "match")
"""Who may send, where results go, and the rules. Everything else is read once, by `start`."""


@dataclass(frozen=True)
class Reload:
    """The outcome of reading the configuration again."""

    settings: Settings
    """What is in force from now on."""
    changes: tuple[str, ...]
    """What differs from before, a sentence each."""
    needs_restart: tuple[str, ...]
    """The sections that differ too, and count only after a restart."""


def compare(current: Settings, read: Settings) -> Reload:
    """The settings that a service with the settings `current` takes over from `read`."""
    before, after = current.model_dump(), read.model_dump()
    changes = [sentence for name in RELOADED for sentence in _differences(name, before[name], after[name])]
    others = tuple(name for name in before if name not in RELOADED and before[name] != after[name])
    settings = current.model_copy(update={name: getattr(read, name) for name in RELOADED})
    return Reload(settings, tuple(changes), others)


def _differences(where: str, before: Any, after: Any) -> Iterator[str]:
    """A sentence for each key that differs. Entries of [[sources]] and [[destinations]] are told apart by their names."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys((*before, *after)):
            yield from _differences(f"{where} {key}", before.get(key), after.get(key))
    elif _are_named(before) and _are_named(after):
        old, new = ({entry["name"]: entry for entry in entries} for entries in (before, after))
        yield from (f"{where} {name} is removed" for name in old if name not in new)
        yield from (f"{where} {name} is added" for name in new if name not in old)
        for name in old:
            if name in new:
                yield from _differences(f"{where} {name}", old[name], new[name])
    else:
        yield f"{where} is {_shown(after)}, was {_shown(before)}"


def _are_named(entries: Any) -> bool:
    return isinstance(entries, Sequence) and all(isinstance(entry, Mapping) and "name" in entry for entry in entries)


def _shown(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
