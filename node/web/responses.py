"""Headers that every answer carries, errors as pages, and the templates."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from node import __version__
from node.errors import NodeError, NotFoundError, TransitionError
from node.web import words
from node.web.access import Identity, NotAllowedError, NotLoggedInError, identify
from node.web.site import site_of

FOLDER = Path(__file__).parent

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Patients' data stay out of the browser's cache unless an answer says otherwise itself."""

_TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update(words.FILTERS)
_TEMPLATES.globals.update(version=__version__, zone=words.zone, advice=words.advice)


def render(
    request: Request, template: str, identity: Identity | None, status: int = 200, **context: Any
) -> HTMLResponse:
    """A page, or with a template whose name begins with _ a part of one."""
    site = site_of(request)
    text = _TEMPLATES.get_template(template).render(
        request=request,
        identity=identity,
        phi=identity is not None and identity.phi,
        open_to_all=site.settings.web.open_to_all,
        here=request.url.path,
        **context,
    )
    return HTMLResponse(text, status)


def redirect(request: Request, path: str) -> Response:
    """Have the browser load another page, whether it or htmx asked."""
    if "hx-request" in request.headers:
        return HTMLResponse("", headers={"HX-Redirect": path})
    return RedirectResponse(path, 303)


def install(app: FastAPI) -> None:
    """Give an app the headers and the error pages."""

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    app.add_exception_handler(NotLoggedInError, _not_logged_in)
    app.add_exception_handler(NotAllowedError, _not_allowed)
    app.add_exception_handler(NodeError, _node_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ValidationError, _invalid)


def _is_page(request: Request) -> bool:
    """Whether a person waits for the answer, in the place of a whole page."""
    return "text/html" in request.headers.get("accept", "") and "hx-request" not in request.headers


async def _not_logged_in(request: Request, error: Exception) -> Response:
    if request.method == "GET" and _is_page(request):
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(str(request.url_for("login").include_query_params(next=path)), 303)
    return HTMLResponse("You are not logged in.", 401, {"HX-Redirect": str(request.url_for("login").path)})


async def _not_allowed(request: Request, error: Exception) -> Response:
    return _error(request, 403, "Not allowed", str(error))


async def _node_error(request: Request, error: Exception) -> Response:
    if isinstance(error, NotFoundError):
        return _error(request, 404, "Not found", str(error))
    if isinstance(error, TransitionError):
        return _error(request, 409, "Not possible now", str(error))
    return _error(request, 503 if getattr(error, "retryable", False) else 500, "Something is wrong", str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _error(request, 404, "Not found", "There is no such page.")
    answer = _error(request, error.status_code, "Not possible", str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _invalid(request: Request, error: Exception) -> Response:
    return _error(request, 400, "Not understood", "A value in the address or in the form is not valid.")


def _error(request: Request, status: int, title: str, sentence: str) -> Response:
    if not _is_page(request):
        return HTMLResponse(words.escaped(sentence), status)
    identity = identify(request, site_of(request))
    return render(request, "error.html", identity, status, title=title, sentence=sentence)
