"""The page of one job: how it stands, what came before and after it, what was decided and measured, what was sent."""

import base64
import hashlib
import re
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from node.errors import LostError, NotFoundError
from node.tracker import listing, timeline, views
from node.tracker.audit import Action, audit
from node.tracker.states import Kind
from node.web.access import Identity, Viewer
from node.web.acts import ACTS
from node.web.pages.studies import history
from node.web.pages.viewer import JobId
from node.web.quality import figures
from node.web.responses import HEADERS, render
from node.web.site import CurrentSite, Site

router = APIRouter()

WITH_RESULT = frozenset({Kind.INFER, Kind.DERIVE, Kind.DELIVER})

_STYLE = re.compile(rb"<style>(.*?)</style>", re.DOTALL)


@router.get("/jobs/{job_id}", name="job")
def page(request: Request, site: CurrentSite, identity: Viewer, job_id: JobId) -> HTMLResponse:
    """The whole page."""
    facts = _facts(site, identity, job_id)
    study_uid = facts["job"].study_uid
    if identity.phi:
        audit(site.tracker, Action.VIEWED, identity.user.name, study_uid, {"what": "job", "job": job_id})
    return render(request, "job.html", identity, **facts, **history(site, study_uid), **_measured(site, facts["job"]))


@router.get("/jobs/{job_id}/live")
def live(request: Request, site: CurrentSite, identity: Viewer, job_id: JobId) -> HTMLResponse:
    """The part that the page replaces by itself every few seconds."""
    facts = _facts(site, identity, job_id)
    now = datetime.now(UTC)
    stages = timeline.timeline(site.tracker.database, facts["job"].study_uid, now)
    return render(request, "_job.html", identity, **facts, timeline=stages, **_measured(site, facts["job"]))


@router.get("/jobs/{job_id}/report")
def report(site: CurrentSite, identity: Viewer, job_id: JobId) -> Response:
    """The report on a result, as it was kept. The page contains its style, so its policy allows that style and nothing else."""
    name, _ = views.result_of(site.tracker.database, job_id)
    try:
        content = site.archive.page(name)
    except LostError:
        raise NotFoundError(
            "there is no report: it is not made yet, or was removed because it was kept long enough"
        ) from None
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(style).digest()).decode()}'" for style in _STYLE.findall(content)
    )
    policy = (
        f"default-src 'none'; style-src {hashes or chr(39) + 'none' + chr(39)}; frame-ancestors 'none'; base-uri 'none'"
    )
    return HTMLResponse(content, headers=HEADERS | {"Content-Security-Policy": policy})


def _facts(site: Site, identity: Identity, job_id: int) -> dict[str, Any]:
    database = site.tracker.database
    job = views.job(database, job_id)
    return {
        "job": job,
        "study": listing.study(database, job.study_uid, phi=identity.phi),
        "steps": timeline.steps(database, job_id, datetime.now(UTC)),
        "acts": [act for act in ACTS.values() if act.possible(job.kind, job.state)],
    }


def _measured(site: Site, job: views.JobDetail) -> dict[str, Any]:
    """What was measured of the result that the job makes or sends, and whether there is something to look at."""
    if job.kind not in WITH_RESULT:
        return {"quality": None, "figures": [], "acquired": None, "has_layers": False, "has_result": False}
    name, _ = views.result_of(site.tracker.database, job.id)
    measured = site.archive.measured(name)
    quality = measured.quality
    return {
        "quality": quality,
        "acquired": measured.acquired,
        "figures": figures(quality, site.settings.report) if quality else [],
        "has_layers": site.archive.has_layers(name),
        "has_result": site.archive.has_result(name),
    }
