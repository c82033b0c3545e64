"""What a disk holds when the power goes: what was made durable by fsync, and of the rest nothing, all, or some.

The strict reading of POSIX: fsync of a file makes its content durable, and fsync of a folder the names in it. File systems keep
more than that, each in its way.
"""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.power.trace import Op

BLOCK = 4096
_UNSAVED = ("-shm",)
"""Files that SQLite makes anew."""


@dataclass(eq=False)
class File:
    """A file, by whatever name."""

    now: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    since: list[tuple[int, Op]] = field(default_factory=list)
    """Writes that are not durable, each with its number."""


class Folder:
    """Only its name counts."""


Entry = File | Folder


class Disk:
    """The files below a folder that was empty in the beginning."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._now: dict[str, Entry] = {self._root: Folder()}
        self._durable: dict[str, Entry] = {self._root: Folder()}
        self._changes: list[tuple[int, str, Entry | None]] = []
        """Names given and taken since their folder was made durable, each with its number."""
        self._number = -1

    def do(self, op: Op) -> None:
        """Let it happen."""
        self._number += 1
        match op.what:
            case "create":
                if op.path not in self._now:
                    self._name(op.path, File())
            case "make folder":
                self._name(op.path, Folder())
            case "write":
                self._write(op.path, op)
            case "copy":
                content = bytes(self._file(op.path).now[op.offset : op.offset + op.length])
                target = self._file(op.to)
                self._write(op.to, Op("write", op.to, offset=len(target.now), content=content))
            case "truncate":
                self._write(op.path, op)
            case "rename":
                self._name(op.to, self._now[op.path])
                self._name(op.path, None)
            case "link":
                self._name(op.to, self._now[op.path])
            case "remove":
                self._name(op.path, None)
            case "sync":
                self._sync(op)

    def after_power_loss(self, rest: str, chance: random.Random) -> dict[str, bytes | None]:
        """Content by path, None for folders. What was not durable is there as `rest` says: "nothing", "all", or "some" of
        it, of which each write may have come to a part of its blocks."""
        names = dict(self._durable)
        for _, path, entry in self._changes:
            if rest == "all" or (rest == "some" and chance.random() < 0.5):
                _rename(names, path, entry)
        found: dict[str, bytes | None] = {}
        for path, entry in sorted(names.items()):
            parent = path.rpartition("/")[0]
            if path != self._root and not isinstance(names.get(parent), Folder):
                continue  # its folder was not durable, so it is not there
            if isinstance(entry, Folder):
                found[path] = None
            elif not path.endswith(_UNSAVED):
                found[path] = _content(entry, rest, chance)
        return {path: content for path, content in found.items() if self._reached(path, found)}

    def _reached(self, path: str, found: dict[str, bytes | None]) -> bool:
        return path == self._root or (
            path.rpartition("/")[0] in found and self._reached(path.rpartition("/")[0], found)
        )

    def _file(self, path: str) -> File:
        entry = self._now[path]
        assert isinstance(entry, File), path
        return entry

    def _write(self, path: str, op: Op) -> None:
        file = self._file(path)
        file.since.append((self._number, op))
        _apply(file.now, op)

    def _name(self, path: str, entry: Entry | None) -> None:
        self._changes.append((self._number, path, entry))
        _rename(self._now, path, entry)

    def _sync(self, op: Op) -> None:
        """What was done before it was begun is durable."""
        entry = self._now.get(op.path)
        if isinstance(entry, File):
            for number, write in entry.since:
                if number < op.began:
                    _apply(entry.durable, write)
            entry.since = [(number, write) for number, write in entry.since if number >= op.began]
            return
        later = []
        for number, path, named in self._changes:
            if path.rpartition("/")[0] == op.path and number < op.began:
                _rename(self._durable, path, named)
            else:
                later.append((number, path, named))
        self._changes = later


def write_to(found: dict[str, bytes | None], root: Path, target: Path) -> None:
    """Put what a disk holds into a new folder."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path, content in sorted(found.items()):
        place = target / Path(path).relative_to(root)
        if content is None:
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(content)


def moments(ops: Sequence[Op]) -> list[int]:
    """After how many operations the power may go: after each that changes what a disk holds, and each promise."""
    return [n + 1 for n, op in enumerate(ops) if op.what != "create" or not op.path.endswith(".lock")]


def _rename(names: dict[str, Entry], path: str, entry: Entry | None) -> None:
    if entry is None:
        names.pop(path, None)
    else:
        names[path] = entry


def _content(file: File, rest: str, chance: random.Random) -> bytes:
    if rest == "all":
        return bytes(file.now)
    content = bytearray(file.durable)
    for _, op in file.since if rest == "some" else ():
        if op.what == "truncate":
            if chance.random() < 0.5:
                _apply(content, op)
            continue
        for start in range(0, len(op.content), BLOCK):
            if chance.random() < 0.5:
                _apply(content, Op("write", offset=op.offset + start, content=op.content[start : start + BLOCK]))
    return bytes(content)


def _apply(content: bytearray, op: Op) -> None:
    if op.what == "truncate":
        del content[op.length :]
        content.extend(bytes(op.length - len(content)))
        return
    end = op.offset + len(op.content)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[op.offset : end] = op.content
