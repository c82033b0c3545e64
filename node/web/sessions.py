"""Who is logged in. Kept in the memory of this process only: a restart logs everybody out, a log-out counts at once."""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from node.web.users import User

MOST = 10_000
"""Sessions. Beyond it the oldest end: it takes a correct password to make one."""


@dataclass
class _Session:
    user: User
    since: float
    seen: float


class Sessions:
    """Sessions by the hash of their token, so that a dump of the memory's table gives nobody a cookie."""

    def __init__(self, idle_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s, self._longest_s, self._clock = idle_s, longest_s, clock
        self._sessions: dict[str, _Session] = {}
        self._guard = threading.Lock()
        self._secret = secrets.token_bytes(32)

    def begin(self, user: User) -> str:
        """A new session; its token, for the cookie."""
        token, now = secrets.token_urlsafe(32), self._clock()
        with self._guard:
            self._drop_old(now)
            while len(self._sessions) >= MOST:
                self._sessions.pop(next(iter(self._sessions)))
            self._sessions[_digest(token)] = _Session(user, now, now)
        return token

    def user(self, token: str, *, active: bool) -> User | None:
        """Whose session it is; None when it has ended, or never was. `active` is False for what the page asks for by
        itself: an unattended page must not keep a session alive."""
        now = self._clock()
        with self._guard:
            session = self._sessions.get(_digest(token))
            if session is None:
                return None
            if self._is_over(session, now):
                del self._sessions[_digest(token)]
                return None
            if active:
                session.seen = now
            return session.user

    def end(self, token: str) -> None:
        """Log out."""
        with self._guard:
            self._sessions.pop(_digest(token), None)

    def csrf_token(self, identity: str) -> str:
        """What a form of that session, or of that user of the proxy, has to carry. It cannot be computed outside."""
        return hmac.new(self._secret, identity.encode(), hashlib.sha256).hexdigest()

    def _is_over(self, session: _Session, now: float) -> bool:
        return now - session.seen > self._idle_s or now - session.since > self._longest_s

    def _drop_old(self, now: float) -> None:
        for digest in [digest for digest, session in self._sessions.items() if self._is_over(session, now)]:
            del self._sessions[digest]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Attempts:
    """Failed log-ins, by name and by address. Beyond a few, each further failure doubles the time to wait."""

    FREE: ClassVar[dict[str, int]] = {"name": 5, "address": 20}  # a department may share an address behind its proxy
    FIRST_S = 15.0
    LONGEST_S = 900.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}
        self._guard = threading.Lock()

    def wait_s(self, name: str, address: str) -> float:
        """How long to wait before these may try again; 0 when they need not."""
        now = self._clock()
        with self._guard:
            return max(0.0, *(self._until(key) - now for key in _keys(name, address)))

    def failed(self, name: str, address: str) -> None:
        """Count a failure."""
        now = self._clock()
        with self._guard:
            for key in _keys(name, address):
                count, last = self._failures.get(key, (0, now))
                self._failures[key] = (1 if now - last > self.LONGEST_S else count + 1, now)
            if len(self._failures) > MOST:
                self._failures = {key: f for key, f in self._failures.items() if now - f[1] <= self.LONGEST_S}

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of a name and an address."""
        with self._guard:
            for key in _keys(name, address):
                self._failures.pop(key, None)

    def _until(self, key: tuple[str, str]) -> float:
        count, last = self._failures.get(key, (0, 0.0))
        beyond = count - self.FREE[key[0]]
        return last + min(self.LONGEST_S, self.FIRST_S * 2.0 ** min(beyond, 10)) if beyond >= 0 else 0.0


def _keys(name: str, address: str) -> list[tuple[str, str]]:
    return [("name", name), ("address", address)]
