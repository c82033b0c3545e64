"""Logging in and out."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from node.tracker.audit import Action, audit
from node.web import words
from node.web.access import NotAllowedError, Poster, address_of, cookie_name, identify
from node.web.responses import render
from node.web.site import CurrentSite, Site

router = APIRouter()


def from_this_site(request: Request) -> None:
    """Refuse a log-in that another site's page sends: it would make somebody work under another name."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise NotAllowedError("log in on the page of the node itself")


@router.get("/login", name="login")
def page(request: Request, site: CurrentSite, next: str = "/") -> Response:
    """The form. Somebody who is logged in already goes on."""
    if identify(request, site) is not None:
        return RedirectResponse(_local(next), 303)
    return _form(request, site, next)


@router.post("/login", dependencies=[Depends(from_this_site)])
def log_in(
    request: Request,
    site: CurrentSite,
    name: Annotated[str, Form(max_length=64)],
    password: Annotated[str, Form(max_length=1024)],
    next: Annotated[str, Form()] = "/",
) -> Response:
    """Begin a session, or say that name and password do not match, after a wait that grows with every failure."""
    address = address_of(request)
    wait_s = site.attempts.wait_s(name, address)
    if wait_s > 0:
        return _form(request, site, next, f"Too many attempts. Try again in {words.duration(wait_s)}.", 429)
    user = site.users.log_in(name, password)
    if user is None:
        site.attempts.failed(name, address)
        audit(site.tracker, Action.LOGGED_IN, "web", details={"accepted": False, "address": address})
        return _form(request, site, next, "Name and password do not match.", 401)
    site.attempts.succeeded(name, address)
    audit(site.tracker, Action.LOGGED_IN, user.name, details={"accepted": True, "address": address})
    response = RedirectResponse(_local(next), 303)
    response.set_cookie(
        cookie_name(site),
        site.sessions.begin(user),
        httponly=True,
        samesite="lax",
        secure=site.settings.web.tls is not None,
    )
    return response


@router.post("/logout")
def log_out(request: Request, site: CurrentSite, identity: Poster) -> Response:
    """End the session: the cookie is worth nothing from now on, wherever it was copied to."""
    site.sessions.end(request.cookies.get(cookie_name(site), ""))
    audit(site.tracker, Action.LOGGED_OUT, identity.user.name)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(cookie_name(site))
    return response


def _form(request: Request, site: Site, next: str, error: str = "", status: int = 200) -> Response:
    has_users = site.settings.web.users_file is not None
    return render(request, "login.html", None, status, next=_local(next), error=error, has_users=has_users)


def _local(address: str) -> str:
    """The page to go to, if it is one of ours."""
    parts = urlsplit(address)
    ours = (
        not parts.scheme and not parts.netloc and parts.path.startswith("/") and not address.startswith(("//", "/\\"))
    )
    return address if ours else "/"
