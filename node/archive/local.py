"""Durable files in a folder, which several hosts may share. A file is there whole or not at all."""

import errno
import fcntl
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, BinaryIO

from node.archive import log
from node.archive.segment import Record, fsync_folder
from node.errors import ConfigError, MissingError, StorageError, StorageFullError
from node.identity import node_id

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""Error numbers of a file system without hard links."""

_LOG = "log"
"""The folder of a process's log, in its folder for half-written files."""


class LocalFolder:
    """Things kept by key, as files below `root`.

    `home` is the node's own folder. A `root` elsewhere is not made: it may be a file system that is not mounted.

    A file is first written in `root/incoming/NODE/PROCESS`. NODE is the identity of this node, from `home`.
    PROCESS is a folder that a living process holds locked, so a start can tell which half-written files nobody will
    finish, and never touches those of another host or process.
    """

    def __init__(
        self,
        root: Path,
        folders: tuple[str, ...],
        reserve_gb: float = 0.0,
        home: Path | None = None,
        *,
        make: bool = True,
    ) -> None:
        """`make` creates the folders where they are missing; without it nothing is written."""
        self.root = root
        self._home = home or root
        self._reserve_bytes = int(reserve_gb * 1e9)
        self._landmark = root / folders[0]
        self._guard = threading.Lock()
        self._scratch: Path | None = None
        self._held: IO[bytes] | None = None
        self._durable: set[Path] = set()
        if self._home != root and not root.is_dir():
            raise ConfigError(f"[storage] archive: there is no folder {root}; is its file system mounted?")
        try:
            for folder in (*folders, "incoming") if make else ():
                (root / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the archive: cannot make {error.filename}: {error.strerror}") from None

    def within(self, patience_s: float) -> "LocalFolder":
        """Nobody can limit how long a file system takes."""
        return self

    def location(self, key: str) -> str:
        """Where a person finds what is kept under the key."""
        return str(self.root / key)

    def create(self, key: str, content: bytes) -> bool:
        """Keep something new. False when there is something under the key already, which stays as it is."""
        return not (self.root / key).exists() and self._write(key, content, replace=False)

    def replace(self, key: str, content: bytes) -> None:
        """Keep something, instead of what is there."""
        self._write(key, content, replace=True)

    def read(self, key: str) -> bytes:
        """What is kept under the key. MissingError when there is nothing, StorageError when it cannot be read."""
        with self.open(key) as stream:
            try:
                return stream.read()
            except OSError as error:
                raise StorageError(f"cannot read {self.location(key)}: {error.strerror}") from None

    def open(self, key: str) -> BinaryIO:
        """The same as a stream, to read a part of it."""
        try:
            return (self.root / key).open("rb")
        except FileNotFoundError:
            if self._landmark.is_dir():
                raise MissingError(self.location(key)) from None
            raise StorageError(f"the archive {self.root} is not there; is its file system mounted?") from None
        except OSError as error:
            raise StorageError(f"cannot read {self.location(key)}: {error.strerror}") from None

    def read_logged(self, key: str, sha256: str) -> bytes | None:
        """What is in the log of a process, living or dead, and will be the file of that key; None when it is in none.
        `sha256` is that of its data set: another instance that came under the same UID may be in the log too."""
        return log.find(self.root.glob(f"incoming/*/*/{_LOG}"), key, sha256)

    def exists(self, key: str) -> bool:
        return (self.root / key).is_file()

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key that begins with the prefix, which ends with a slash."""
        for path in sorted((self.root / prefix).rglob("*")):
            if path.is_file():
                yield path.relative_to(self.root).as_posix()

    def instance_keys(self, before: datetime) -> Iterator[tuple[str, list[str]]]:
        """Each folder of a study, by its name, with the keys of the files in it that are older than that."""
        try:
            for study in sorted(_folders(self.root / "instances")):
                old = [p for p in study.rglob("*.dcm") if p.is_file() and p.stat().st_mtime < before.timestamp()]
                yield study.name, sorted(path.relative_to(self.root).as_posix() for path in old)
        except OSError as error:
            raise StorageError(f"cannot list {error.filename}: {error.strerror}") from None

    def delete(self, prefix: str) -> None:
        """Remove a key, or every key that begins with a prefix that ends with a slash. It is not an error when there is
        nothing."""
        path = self.root / prefix
        try:
            if prefix.endswith("/"):
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"cannot remove {path}: {error.strerror}") from None

    def check(self) -> None:
        """Raise StorageError when nothing can be kept here."""
        try:
            with tempfile.NamedTemporaryFile(dir=self.root, prefix=".write-probe-"):
                pass
        except OSError as error:
            raise StorageError(f"cannot write in {self.root}: {error.strerror}") from None

    def check_space(self, for_results: bool = False) -> None:
        """Raise StorageFullError when the disk has less than the reserve left. Results of what was received already may use
        half of it."""
        free = shutil.disk_usage(self.root).free
        if free < self._reserve_bytes / (2 if for_results else 1):
            raise StorageFullError(
                f"{free / 1e9:.1f} GB left under {self.root}, below [storage] reserve_gb = {self._reserve_bytes / 1e9:g}; "
                "free some space, or lower the reserve"
            )

    def usage(self) -> tuple[int, int]:
        """Bytes of the disk that are in use, and of all of it."""
        usage = shutil.disk_usage(self.root)
        return usage.total - usage.free, usage.total

    def open_log(self) -> log.Log | None:
        """The log of this process, to keep instances in until `settle` gives them files; None for a folder that other hosts
        may share, where only whole files are seen by all at once. StorageError."""
        if self._home != self.root:
            return None
        folder = self._incoming() / _LOG
        try:
            self._make_durable(folder)
        except OSError as error:
            raise log.as_storage_error(error, folder) from None
        return log.Log(folder)

    def settle(self, entries: Sequence[log.LogEntry], current: Callable[[Sequence[log.LogEntry]], set[str]]) -> None:
        """Give entries of the log files of their own, durable when this returns. `current` says which of them, by key, are
        still wanted; it is asked again in the end, since a study may be purged meanwhile. StorageError."""
        wanted = current(entries)
        made: dict[Path, Path] = {}
        path = self.root
        try:
            scratch = self._incoming()
            for entry in (entry for entry in entries if entry.key in wanted):
                path = self.root / entry.key
                self._make_durable(path.parent)
                temporary = scratch / f".part-{uuid.uuid4().hex}"
                made[path] = temporary
                log.copy(entry, temporary)
            for path, temporary in made.items():
                temporary.replace(path)
            for folder in {path.parent for path in made}:
                fsync_folder(folder)
        except OSError as error:
            for temporary in made.values():
                temporary.unlink(missing_ok=True)
            raise log.as_storage_error(error, path) from None
        still = current(entries)
        for key in wanted - still:
            (self.root / key).unlink(missing_ok=True)

    def leftovers(self) -> Iterator[tuple[Record, bytes | None]]:
        """What the logs of dead processes of this node hold, see `log.leftovers`. A log is removed when all of it was
        taken."""
        for folder in _folders(self.root / "incoming" / node_id(self._home)):
            if folder != self._scratch and (folder / _LOG).is_dir() and (lock := _lock(folder)) is not None:
                with lock:
                    yield from log.leftovers(folder / _LOG)
                    shutil.rmtree(folder / _LOG)

    def discard_incoming(self) -> int:
        """Remove what dead processes of this node left half-written. Returns how many files. A log is not half-written: it
        stays until `leftovers` was taken."""
        incoming = self.root / "incoming"
        try:
            removed = 0
            for folder in _folders(incoming / node_id(self._home)):
                if folder != self._scratch and not (folder / _LOG).is_dir() and (lock := _lock(folder)) is not None:
                    with lock:
                        removed += sum(path.suffix != ".lock" for path in folder.iterdir())
                        shutil.rmtree(folder)
            for path in incoming.glob(".part-*"):  # of a version before this one, which had one folder for all
                path.unlink(missing_ok=True)
                removed += 1
            return removed
        except OSError as error:
            raise StorageError(f"cannot clean up {incoming}: {error.strerror}") from None

    def close(self) -> None:
        """Leave no folder of this process behind. Nothing may be written afterwards."""
        with self._guard:
            if self._held is not None:
                self._held.close()
            if self._scratch is not None and not any((self._scratch / _LOG).glob("*")):  # else the next start takes it
                shutil.rmtree(self._scratch, ignore_errors=True)
            self._held = self._scratch = None

    def _write(self, key: str, content: bytes, *, replace: bool) -> bool:
        self.check_space(for_results=not key.startswith("instances/"))
        path = self.root / key
        try:
            self._make_durable(path.parent)
            return _write(path, content, self._incoming(), replace=replace)
        except OSError as error:
            raise log.as_storage_error(error, path) from None

    def _make_durable(self, folder: Path) -> None:
        """Make a folder that survives a loss of power. Another thread or host may have made it a moment ago without
        having come so far, so the first use by this process counts."""
        if folder in self._durable and folder.is_dir():
            return
        folder.mkdir(parents=True, exist_ok=True)
        for parent in folder.parents:
            fsync_folder(parent)
            if parent == self.root:
                break
        if len(self._durable) > 10_000:
            self._durable.clear()
        self._durable.add(folder)

    def _incoming(self) -> Path:
        """The folder for half-written files of this process."""
        with self._guard:
            while self._scratch is None or not self._scratch.is_dir():
                scratch = self.root / "incoming" / node_id(self._home) / uuid.uuid4().hex
                scratch.mkdir(parents=True)
                self._held = _lock(scratch)
                if self._held is not None:  # else another process has just cleaned up, and took it for abandoned
                    self._scratch = scratch
            return self._scratch


def write_durably(path: Path, content: bytes) -> None:
    """Write a whole file or none, folders included, so that it survives a loss of power. Raises StorageError."""
    try:
        new_folders = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, content, path.parent, replace=True)
        for folder in new_folders:
            fsync_folder(folder.parent)
    except OSError as error:
        raise log.as_storage_error(error, path) from None


def _write(path: Path, content: bytes, scratch: Path, *, replace: bool) -> bool:
    """Write a temporary file in `scratch`, on the same file system, and give it its name. False when it was not to
    replace what has that name."""
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=scratch, prefix=".part-", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        elif not _give_new_name(temporary, path):
            return False
        fsync_folder(path.parent)
        return True
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _give_new_name(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            return False
        temporary.replace(path)
    return True


def _folders(parent: Path) -> list[Path]:
    try:
        return [path for path in parent.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []


def _lock(folder: Path) -> IO[bytes] | None:
    """The lock of a process's folder, held until it is closed; None when a living process holds it, or it is gone."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        file = os.fdopen(os.open(folder / "process.lock", flags, 0o600), "r+b")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
