"""The web application: the pages of one node, without the API documentation that FastAPI would add."""

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from node.web.dicomweb import routes
from node.web.dicomweb.readers import Readers
from node.web.metrics import Metrics
from node.web.pages import acts, audit, dashboard, health, job, jobs, login, rules, studies, viewer
from node.web.responses import FOLDER, install
from node.web.site import Site

LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]", "::1"]


def create_app(site: Site) -> FastAPI:
    """The application that serves a site."""
    app = FastAPI(title="DiffMSR node", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = site
    app.state.metrics = Metrics(site)
    if site.settings.web.open_to_all:
        # Without a log-in the address is the only guard: a page of another site must not reach us under its own name.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_NAMES)
    install(app)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    for pages in (login, dashboard, studies, acts, jobs, job, viewer, rules, audit, health):
        app.include_router(pages.router)
    if site.settings.web.dicomweb:
        app.state.readers = Readers(site)
        app.include_router(routes.router)
    return app
