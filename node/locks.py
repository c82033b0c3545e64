"""One service per role, host and data folder, and which roles run, as other processes see it."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from node.errors import ConfigError, NodeError
from node.roles import Role, RunningRole


@contextmanager
def only_one(data_dir: Path, roles: list[Role]) -> Iterator[None]:
    """Hold this host's lock of each role on this data folder; NodeError when another service has one. A lock ends with its
    process, however that ends."""
    held: list[TextIO] = []
    try:
        for role in roles:
            held.append(_lock(data_dir, role))
        yield
    finally:
        for file in held:
            file.close()


def running_roles(data_dir: Path) -> dict[Role, RunningRole]:
    """The roles that run on this host for that data folder, each with its process and since when."""
    running: dict[Role, RunningRole] = {}
    for role in Role:
        try:
            with _path(data_dir, role).open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    running[role] = RunningRole.model_validate_json(file.read() or "{}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(
                f"[node] data_dir: cannot read {error.filename}: {error.strerror}; use the account of the service"
            ) from None
    return running


def _path(data_dir: Path, role: Role) -> Path:
    return data_dir / f"service-{role}-{socket.gethostname()}.lock"


def _lock(data_dir: Path, role: Role) -> TextIO:
    try:
        # A symbolic link in its place would have another file emptied.
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        file = os.fdopen(os.open(_path(data_dir, role), flags, 0o600), "a+")
    except OSError as error:
        raise ConfigError(f"[node] data_dir: cannot write {error.filename}: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "starting"
        file.close()
        raise NodeError(
            f"the role {role} is already running on {data_dir} ({holder}); stop that service first, or give this one another "
            "[node] data_dir"
        ) from None
    file.truncate(0)
    file.write(RunningRole(pid=os.getpid(), since=datetime.now(UTC).isoformat(timespec="seconds")).model_dump_json())
    file.flush()
    return file
