"""Who asks, and whether they may. Every page names the role it needs; every change needs the token of its session too.

Somebody is known by a session cookie, or by the header of a trusted reverse proxy. Where neither is configured, the page
is reachable from this machine alone, and shows everything but who the patient is; nothing can be changed, because an act
is recorded with the name of who did it.
"""

import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from node.config.web import WebRole
from node.web.site import CurrentSite, Site
from node.web.users import User

COOKIE = "diffmsr_session"
LIVE = "live"
"""Query parameter of what a page asks for by itself, to keep itself up to date."""

ANYBODY = User("anybody on this machine", frozenset({"view"}))


class NotLoggedInError(Exception):
    """Nobody is logged in."""


class NotAllowedError(Exception):
    """The user is known, and may not do this."""


@dataclass(frozen=True)
class Identity:
    """Who asks, and the token that their forms must carry."""

    user: User
    csrf_token: str
    can_log_out: bool

    def may(self, role: WebRole) -> bool:
        return self.user.may(role)

    @property
    def phi(self) -> bool:
        """Whether they may see who the patient is."""
        return self.user.may("phi")


def cookie_name(site: Site) -> str:
    """With TLS the browser itself refuses to let another host or path of the domain set the cookie."""
    return f"__Host-{COOKIE}" if site.settings.web.tls else COOKIE


def address_of(request: Request) -> str:
    """The address of the peer: of the browser, or of the proxy before it."""
    return request.client.host if request.client else ""


def from_proxy(request: Request, site: Site) -> bool:
    """Whether the request comes from an address that may say who the user is."""
    try:
        address = ipaddress.ip_address(address_of(request))
    except ValueError:
        return False
    return any(address in network for network in site.settings.web.proxy_addresses)


def identify(request: Request, site: Site) -> Identity | None:
    """Who asks; None when nobody is logged in."""
    web = site.settings.web
    if web.open_to_all:
        return Identity(ANYBODY, site.sessions.csrf_token("anybody"), can_log_out=False)
    name = request.headers.get(web.proxy_user_header, "") if from_proxy(request, site) else ""
    if name:
        account = site.users.account(name)
        user = User(name[:64], account.roles if account else frozenset(web.proxy_roles))
        return Identity(user, site.sessions.csrf_token(f"proxy {name}"), can_log_out=False)
    token = request.cookies.get(cookie_name(site), "")
    found = site.sessions.user(token, active=LIVE not in request.query_params) if token else None
    return None if found is None else Identity(found, site.sessions.csrf_token(f"session {token}"), can_log_out=True)


def require(role: WebRole) -> Callable[..., Identity]:
    """A dependency: the identity of who asks, if they have that role. It is for pages that change nothing."""

    def check(request: Request, site: CurrentSite) -> Identity:
        identity = identify(request, site)
        if identity is None:
            raise NotLoggedInError
        if not identity.may(role):
            raise NotAllowedError(f"this needs the role {role!r}, which {identity.user.name} does not have")
        return identity

    return check


async def check_token(request: Request, identity: Identity) -> None:
    """Refuse a change that does not carry the session's token: another site's page can send a cookie, but no token.
    The header is looked at first, so that a forged upload is refused unread."""
    given = request.headers.get("X-CSRF-Token")
    if given is None and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        given = str((await request.form()).get("csrf_token", ""))
    if not hmac.compare_digest((given or "").encode(), identity.csrf_token.encode()):
        raise NotAllowedError("the form is too old, or does not come from this page; load the page again")


Viewer = Annotated[Identity, Depends(require("view"))]


async def _operator(request: Request, identity: Annotated[Identity, Depends(require("operate"))]) -> Identity:
    await check_token(request, identity)
    return identity


async def _viewer_who_posts(request: Request, identity: Viewer) -> Identity:
    await check_token(request, identity)
    return identity


Operator = Annotated[Identity, Depends(_operator)]
"""Somebody who may act on jobs, with a form of this page."""

Poster = Annotated[Identity, Depends(_viewer_who_posts)]
"""Somebody who may see the page, with a form of it."""
