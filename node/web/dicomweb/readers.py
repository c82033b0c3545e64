"""Who may read images: people with the role `phi`, by the session of the page, by the proxy's header, or with HTTP Basic
authentication (RFC 7617), which is what Weasis, 3D Slicer and scripts have."""

import base64
import hashlib
import threading
import time
from typing import Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from node.tracker.audit import Action, Detail, audit
from node.web.access import Identity, NotAllowedError, address_of, identify
from node.web.site import CurrentSite, Site
from node.web.users import User

_CHALLENGE = {"WWW-Authenticate": 'Basic realm="DiffMSR node", charset="UTF-8"'}


class Readers:
    """What one site remembers of those who read."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._guard = threading.Lock()
        self._sessions: dict[str, str] = {}
        """Digest of name and password to the token of a session: a password is verified once, not for each frame."""
        self._viewed: dict[tuple[str, str], float] = {}

    def user(self, request: Request) -> User | None:
        """Whom name and password of the request belong to; None when there are none, or they do not match. HTTPException 429
        after too many attempts."""
        given = _credentials(request)
        if given is None:
            return None
        digest = hashlib.sha256("\0".join(given).encode()).hexdigest()
        with self._guard:
            token = self._sessions.get(digest, "")
        known = self._site.sessions.user(token, active=True) if token else None
        return known or self._log_in(request, *given, digest)

    def _log_in(self, request: Request, name: str, password: str, digest: str) -> User | None:
        site, address = self._site, address_of(request)
        if site.attempts.wait_s(name, address) > 0:
            raise HTTPException(429, "too many attempts; try again later")
        user = site.users.log_in(name, password)
        audit(
            site.tracker,
            Action.LOGGED_IN,
            name if user else "web",
            details={"accepted": bool(user), "address": address},
        )
        if user is None:
            site.attempts.failed(name, address)
            return None
        site.attempts.succeeded(name, address)
        with self._guard:
            self._sessions[digest] = site.sessions.begin(user)
        return user

    def viewed(self, name: str, study_uid: str) -> None:
        """Enter in the audit trail that somebody reads a study: once in the time that a session may be idle, not for each of
        its frames."""
        now = time.monotonic()
        longest_s = self._site.settings.web.session_idle_minutes * 60
        with self._guard:
            self._viewed = {key: at for key, at in self._viewed.items() if now - at < longest_s}
            is_known = (name, study_uid) in self._viewed
            self._viewed[name, study_uid] = now
        if not is_known:
            self._audit(name, study_uid, {"what": "images, by DICOMweb"})

    def searched(self, name: str, answers: int) -> None:
        """Enter that somebody searched, and how much was found."""
        self._audit(name, None, {"what": "search, by DICOMweb", "answers": answers})

    def _audit(self, name: str, study_uid: str | None, details: dict[str, Detail]) -> None:
        audit(self._site.tracker, Action.VIEWED, name, study_uid, details)


def _credentials(request: Request) -> tuple[str, str] | None:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (name[:64], password[:1024]) if colon else None


def _reader(request: Request, site: CurrentSite) -> Identity:
    readers: Readers = request.app.state.readers
    identity = identify(request, site)
    if identity is None:
        user = readers.user(request)
        if user is None:
            raise HTTPException(401, "log in, or send name and password", _CHALLENGE)
        identity = Identity(user, csrf_token="", can_log_out=False)
    if not identity.phi:
        raise NotAllowedError(f"this needs the role 'phi', which {identity.user.name} does not have")
    return identity


def readers_of(request: Request) -> Readers:
    """Those of the site that a request is for."""
    readers: Readers = request.app.state.readers
    return readers


Reader = Annotated[Identity, Depends(_reader)]
AllReaders = Annotated[Readers, Depends(readers_of)]
