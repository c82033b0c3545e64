"""Who may log in: a TOML file of names, argon2 hashes and roles.

    [anna]
    password = "$argon2id$v=19$..."          # made by: diffmsr-node users set anna --role operate
    roles = ["view", "operate", "phi"]

The file is read again when it has changed, so a user can be added or removed without a restart.
"""

import re
import threading
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from node.archive.local import write_durably
from node.config.web import WebRole
from node.errors import ConfigError

HASHER = PasswordHasher()

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")

_AT_ONCE = threading.BoundedSemaphore(2)
"""A verification takes 64 MiB for a moment: many at once must not take the memory of the receiver."""


class Account(BaseModel):
    """One entry of the users file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    password: str | None = None
    """An argon2 hash; without one the user can come through the reverse proxy only."""
    roles: frozenset[WebRole] = frozenset({"view"})


@dataclass(frozen=True)
class User:
    """Somebody who uses the page."""

    name: str
    roles: frozenset[WebRole]

    def may(self, role: WebRole) -> bool:
        return role in self.roles or (role == "view" and bool(self.roles))


_ACCOUNTS = TypeAdapter(dict[str, Account])


@dataclass
class Users:
    """The users file, if there is one."""

    path: Path | None
    _accounts: dict[str, Account] = field(default_factory=dict)
    _read_at: tuple[int, int] | None = None
    _nobody: str = ""
    """Verified for a name that does not exist, so that the answer takes as long as for one that does."""

    def __post_init__(self) -> None:
        if self.path is not None:
            self._nobody = HASHER.hash("no such user")

    def account(self, name: str) -> Account | None:
        """The account of that name. ConfigError when the file cannot be read."""
        if self.path is None:
            return None
        try:
            status = self.path.stat()
        except OSError as error:
            raise ConfigError(f"[web] users_file: cannot read {self.path}: {error.strerror}") from None
        version = status.st_mtime_ns, status.st_size
        if version != self._read_at:
            self._accounts, self._read_at = read_users(self.path), version
        return self._accounts.get(name)

    def log_in(self, name: str, password: str) -> User | None:
        """The user with that name and password; None when there is none. Takes as long either way."""
        account = self.account(name)
        hashed = account.password if account and account.password else self._nobody
        with _AT_ONCE:
            try:
                HASHER.verify(hashed, password)
            except (VerificationError, InvalidHashError):
                return None
        return User(name, account.roles) if account and account.password else None


def read_users(path: Path) -> dict[str, Account]:
    """The accounts of a users file. ConfigError, with one sentence, when it cannot be used."""
    try:
        accounts = _ACCOUNTS.validate_python(tomllib.loads(path.read_text()))
    except OSError as error:
        raise ConfigError(f"[web] users_file: cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigError(f"[web] users_file: {path} is not valid TOML") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"[web] users_file: {path}: {where}: {first['msg']}") from None
    for name, account in accounts.items():
        _checked(path, name)
        if account.password is not None and not account.password.startswith("$argon2"):
            raise ConfigError(f"[web] users_file: {path}: {name}: password must be an argon2 hash, not the password")
    return accounts


def write_users(path: Path, accounts: dict[str, Account]) -> None:
    """Replace the users file, which only its owner may read. ConfigError when a name cannot be, StorageError when it cannot
    be written."""
    parts = []
    for name, account in sorted(accounts.items()):
        password = [] if account.password is None else [f'password = "{account.password}"']
        roles = ", ".join(f'"{role}"' for role in sorted(account.roles))
        parts.append("\n".join([f'["{_checked(path, name)}"]', *password, f"roles = [{roles}]", ""]))
    write_durably(path, "\n".join(parts).encode())  # a temporary file, so of mode 0600


def _checked(path: Path, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"[web] users_file: {path}: {name!r} is not a user name: letters, digits, . _ @ -, at most 64"
        )
    return name
