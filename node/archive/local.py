"""Durable files on a local disk. A file is there whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from node.errors import StorageError, StorageFullError


def write_durably(path: Path, content: bytes) -> None:
    """Write a whole file or none, folders included, so that it survives a loss of power. Raises StorageError."""
    with _writing(path, path.parent) as file:
        file.write(content)


@contextmanager
def _writing(path: Path, scratch: Path) -> Iterator[IO[bytes]]:
    """A temporary file in `scratch` (on the same disk) that becomes `path` when the block ends well."""
    temporary: Path | None = None
    try:
        new_folders = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=scratch, prefix=".part-", delete=False) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        for folder in [path.parent, *(f.parent for f in new_folders)]:
            _fsync_folder(folder)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        kind = StorageFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(f"cannot write {path}: {error.strerror}") from None


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
