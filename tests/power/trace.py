"""The writes of a program, from the output of `strace -f -y -xx`, in the order in which they were done."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "openat,write,pwrite64,pwritev,pwritev2,lseek,fsync,fdatasync,ftruncate,rename,renameat,renameat2,link,linkat,unlink,"
    "unlinkat,mkdir,mkdirat,rmdir,copy_file_range,sendfile,fallocate"
)
COMMAND = ("strace", "-f", "-y", "-xx", "-s", "4194304", "-e", f"trace={CALLS}", "-e", "signal=none")


@dataclass(frozen=True)
class Op:
    """Something that a program did to its files. `began` is how many were done when it was begun."""

    what: str
    path: str = ""
    to: str = ""
    offset: int = 0
    content: bytes = b""
    length: int = 0
    began: int = 0


_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)(<.*?>)?.*", re.S)
_FD = re.compile(r"^(-?\d+|AT_FDCWD)(?:<([^>]*)>)?$")


def read(path: Path, below: Path) -> list[Op]:
    """What the program did to files below that folder, and what it printed: Op("promise", content=...)."""
    done: list[Op] = []
    begun: dict[str, tuple[str, int]] = {}
    positions: dict[str, int] = {}
    with path.open() as lines:
        for line in lines:
            match = _LINE.match(line.rstrip("\n"))
            if match is None:
                continue
            process, said = match.groups()
            began = len(done)
            if said.endswith("<unfinished ...>"):
                begun[process] = (said.removesuffix("<unfinished ...>").rstrip(), began)
                continue
            if said.startswith("<... "):
                first, began = begun.pop(process)
                said = first + said.partition(" resumed>")[2]
            call = _CALL.match(said)
            if call is not None and int(call[3]) >= 0:
                for op in _ops(call[1], _split(call[2]), int(call[3]), call[4] or "", positions, str(below)):
                    done.append(Op(**{**op.__dict__, "began": began}))
    return done


def _ops(
    name: str, arguments: list[str], result: int, opened: str, positions: dict[str, int], below: str
) -> Iterator[Op]:
    """What a call did. `positions` has where each descriptor is."""
    if name in ("write", "pwrite64", "pwritev", "pwritev2"):
        number, path = _descriptor(arguments[0])
        content = b"".join(_text(part) for part in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', arguments[1]))[:result]
        if number == "1":
            yield Op("promise", content=content)
        elif path.startswith(below):
            offset = int(arguments[3]) if name != "write" else positions.get(number, 0)
            if name == "write":
                positions[number] = offset + result
            yield Op("write", path, offset=offset, content=content)
    elif name == "openat":
        path = _decoded(opened.strip("<>"))
        positions[str(result)] = 0
        if path.startswith(below):
            if "O_CREAT" in arguments[2]:
                yield Op("create", path)
            if "O_TRUNC" in arguments[2]:
                yield Op("truncate", path)
            assert "O_APPEND" not in arguments[2] or path.endswith(".lock"), path
    elif name == "lseek":
        positions[_descriptor(arguments[0])[0]] = result
    elif name in ("fsync", "fdatasync"):
        yield from _about("sync", _descriptor(arguments[0])[1], below)
    elif name == "ftruncate":
        _, path = _descriptor(arguments[0])
        if path.startswith(below):
            yield Op("truncate", path, length=int(arguments[1]))
    elif name in ("copy_file_range", "sendfile"):
        source, target = (0, 2) if name == "copy_file_range" else (1, 0)
        _, path = _descriptor(arguments[source])
        number, to = _descriptor(arguments[target])
        if to.startswith(below) and result:
            at = re.search(r"\d+", arguments[1])
            assert name == "copy_file_range" and at is not None, "only what the archive does"
            offset = positions.get(number, 0)
            positions[number] = offset + result
            yield Op("copy", path, to, offset=int(at[0]), length=result)
    elif name in ("rename", "link", "renameat", "renameat2", "linkat"):
        paths = [_decoded(part.strip('"')) for part in arguments if part.startswith('"')]
        if paths[1].startswith(below):
            yield Op("rename" if name.startswith("rename") else "link", paths[0], paths[1])
    elif name in ("unlink", "rmdir", "mkdir", "mkdirat", "unlinkat"):
        paths = [_decoded(part.strip('"')) for part in arguments if part.startswith('"')]
        path = paths[0]
        if not path.startswith("/"):  # relative to a folder that is open
            path = f"{_descriptor(arguments[0])[1]}/{path}"
        yield from _about("make folder" if name.startswith("mkdir") else "remove", path, below)


def _about(what: str, path: str, below: str) -> Iterator[Op]:
    if path.startswith(below):
        yield Op(what, path)


def _descriptor(argument: str) -> tuple[str, str]:
    found = _FD.match(argument)
    assert found is not None, argument[:100]
    return found[1], _decoded(found[2] or "")


def _split(arguments: str) -> list[str]:
    """Arguments, apart at the commas that are not within brackets or quotes. Text is all hexadecimal, so it has neither."""
    parts, depth, start = [], 0, 0
    for found in re.finditer(r'"[^"]*"|[\[{(]|[\]})]|, ', arguments):
        if found[0] in "[{(":
            depth += 1
        elif found[0] in "]})":
            depth -= 1
        elif found[0] == ", " and depth == 0:
            parts.append(arguments[start : found.start()])
            start = found.end()
    return [*parts, arguments[start:]]


def _text(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


def _decoded(path: str) -> str:
    if path.startswith("\\x"):
        path = _text(re.match(r"(?:\\x[0-9a-f]{2})*", path)[0]).decode()  # type: ignore[index]
    return path
