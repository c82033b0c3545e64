"""The list of jobs: filtered, paged and kept up to date; what is ticked stays ticked."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from node.tracker import listing
from node.tracker.listing import JobFilter
from node.tracker.states import Kind, State
from node.web.access import Identity, Viewer
from node.web.acts import ACTS
from node.web.query import filter_of, live_query, query_of
from node.web.responses import render
from node.web.site import CurrentSite, Site

router = APIRouter()

PageNumber = Annotated[int, Query(ge=1, le=10**6)]


@router.get("/jobs", name="jobs")
def page(request: Request, site: CurrentSite, identity: Viewer, page: PageNumber = 1) -> HTMLResponse:
    """A page of the list."""
    return render(request, "jobs.html", identity, **_facts(request, site, identity, page))


@router.get("/jobs/rows")
def rows(request: Request, site: CurrentSite, identity: Viewer, page: PageNumber = 1) -> HTMLResponse:
    """Its rows as they are now."""
    return render(request, "_jobs.html", identity, **_facts(request, site, identity, page))


def _facts(request: Request, site: Site, identity: Identity, page: int) -> dict[str, Any]:
    wanted = filter_of(JobFilter, request.query_params)
    return {
        "wanted": wanted,
        "page": listing.jobs(site.tracker.database, wanted, phi=identity.phi, page=page),
        "query": partial(query_of, wanted),
        "live": live_query(wanted, page=page),
        "kinds": list(Kind),
        "states": list(State),
        "destinations": [destination.name for destination in site.settings.destinations],
        "acts": ACTS,
    }
