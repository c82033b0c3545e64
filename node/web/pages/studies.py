"""The list of studies, and the page of one: what came, what was decided and why, what became of it."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from node.errors import NotFoundError
from node.tracker import listing, timeline, views
from node.tracker.audit import Action, audit
from node.tracker.listing import StudyFilter
from node.tracker.studies import StudyState
from node.verdicts import StudyVerdict
from node.web.access import Identity, Viewer
from node.web.pages.jobs import PageNumber
from node.web.query import filter_of, live_query, query_of
from node.web.responses import render
from node.web.site import CurrentSite, Site

router = APIRouter()


@router.get("/studies", name="studies")
def page(request: Request, site: CurrentSite, identity: Viewer, page: PageNumber = 1) -> HTMLResponse:
    """A page of the list."""
    return render(request, "studies.html", identity, **_facts(request, site, identity, page))


@router.get("/studies/rows")
def rows(request: Request, site: CurrentSite, identity: Viewer, page: PageNumber = 1) -> HTMLResponse:
    """Its rows as they are now."""
    return render(request, "_studies.html", identity, **_facts(request, site, identity, page))


@router.get("/studies/{study_uid}", name="study")
def study(request: Request, site: CurrentSite, identity: Viewer, study_uid: str) -> HTMLResponse:
    """One study."""
    found = listing.study(site.tracker.database, study_uid, phi=identity.phi)
    if identity.phi:
        audit(site.tracker, Action.VIEWED, identity.user.name, study_uid, {"what": "study"})
    return render(request, "study.html", identity, study=found, **history(site, study_uid))


@router.get("/studies/{study_uid}/timeline")
def live(request: Request, site: CurrentSite, identity: Viewer, study_uid: str) -> HTMLResponse:
    """The part of the page of a study that it replaces by itself every few seconds."""
    stages = timeline.timeline(site.tracker.database, study_uid, datetime.now(UTC))
    return render(request, "_timeline.html", identity, timeline=stages)


def history(site: Site, study_uid: str) -> dict[str, Any]:
    """What the pages of a study and of its jobs show of its way through the stages."""
    database = site.tracker.database
    return {
        "series": listing.series(database, study_uid),
        "timeline": timeline.timeline(database, study_uid, datetime.now(UTC)),
        "verdict": _verdict(site, study_uid),
    }


def _verdict(site: Site, study_uid: str) -> StudyVerdict | None:
    """What the matching decided; None when it has not yet."""
    try:
        return views.verdict(site.tracker.database, study_uid)
    except NotFoundError:
        return None


def _facts(request: Request, site: Site, identity: Identity, page: int) -> dict[str, Any]:
    wanted = filter_of(StudyFilter, request.query_params)
    return {
        "wanted": wanted,
        "page": listing.studies(site.tracker.database, wanted, phi=identity.phi, page=page),
        "query": partial(query_of, wanted),
        "live": live_query(wanted, page=page),
        "states": list(StudyState),
    }
