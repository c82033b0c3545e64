"""The audit trail: who did what, and when. For those who may act, because it names people."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from node.tracker import trail
from node.tracker.audit import Action
from node.tracker.trail import AuditFilter
from node.web.access import Identity, require
from node.web.pages.jobs import PageNumber
from node.web.query import filter_of, query_of
from node.web.responses import render
from node.web.site import CurrentSite

router = APIRouter()


@router.get("/audit", name="audit")
def page(
    request: Request,
    site: CurrentSite,
    identity: Annotated[Identity, Depends(require("operate"))],
    page: PageNumber = 1,
) -> HTMLResponse:
    """A page of it."""
    wanted = filter_of(AuditFilter, request.query_params)
    return render(
        request, "audit.html", identity, wanted=wanted, query=partial(query_of, wanted), actions=list(Action),
        page=trail.rows(site.tracker.database, wanted, page=page),
    )  # fmt: skip
