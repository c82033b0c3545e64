"""Acting on jobs: asked first, carried out with the token of the session, one by one, and answered with what became of it."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse

from node.errors import NotFoundError
from node.tracker import listing, pauses
from node.tracker.listing import JobFilter
from node.web.access import Identity, Operator, require
from node.web.acts import ACTS, Act
from node.web.query import filter_of
from node.web.responses import render
from node.web.site import CurrentSite, Site

router = APIRouter()

Asker = Annotated[Identity, Depends(require("operate"))]

MOST_SENTENCES = 5


@router.get("/ask/pause")
def ask_pause(
    request: Request,
    site: CurrentSite,
    identity: Asker,
    what: str,
    act: Annotated[str, Query(pattern="^(pause|resume)$")],
) -> HTMLResponse:
    """Ask before inference or a destination is paused or resumed."""
    if what != pauses.INFERENCE and what not in [pauses.deliveries_to(d.name) for d in site.settings.destinations]:
        raise NotFoundError("there is nothing of that name to pause")
    return render(request, "_ask_pause.html", identity, what=what, act=act)


@router.get("/ask/{act}")
def confirm(
    request: Request, site: CurrentSite, identity: Asker, act: str, id: str = "", everything: bool = False
) -> HTMLResponse:
    """Ask before something is done to jobs: to those of `id`, or to all that the filter finds."""
    wanted = _act(act)
    jobs = filter_of(JobFilter, request.query_params)
    count = listing.job_count(site.tracker.database, jobs, phi=identity.phi) if everything else len(_ids(id))
    fields = jobs.model_dump(mode="json", exclude_none=True) if everything else {}
    return render(
        request, "_ask.html", identity, act=wanted, count=count, id=id, everything=everything, fields=fields
    )  # fmt: skip


@router.post("/acts/{act}")
async def carry_out(request: Request, site: CurrentSite, identity: Operator, act: str) -> HTMLResponse:
    """Do it, and say what became of it."""
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    wanted = _act(act)
    return await run_in_threadpool(_carry_out, request, site, identity, wanted, form)


def _carry_out(request: Request, site: Site, identity: Identity, act: Act, form: dict[str, str]) -> HTMLResponse:
    chosen = _chosen(site, identity, form.get("id", ""), form.get("everything") == "1", form)
    refused = act.carry_out(site, chosen, identity.user.name)
    sentences = [str(error) for error in refused.values()][:MOST_SENTENCES]
    response = render(
        request, "_acted.html", identity,
        act=act, done=len(chosen) - len(refused), failed=len(refused), sentences=sentences,
    )  # fmt: skip
    response.headers["HX-Trigger"] = "changed"
    return response


def _act(name: str) -> Act:
    if name not in ACTS:
        raise NotFoundError("there is no such action")
    return ACTS[name]


def _chosen(site: Site, identity: Identity, ids: str, everything: bool, filter_fields: Mapping[str, str]) -> list[int]:
    if everything:
        return listing.job_ids(site.tracker.database, filter_of(JobFilter, filter_fields), phi=identity.phi)
    return _ids(ids)


def _ids(text: str) -> list[int]:
    return sorted({int(word) for word in text.split(",") if word.isdecimal() and len(word) < 19})
