"""The dashboard: what the node does at the moment, what waits and why, and how each destination does."""

import shutil
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse

from node.errors import NotFoundError
from node.tracker import overview, pauses, peers, views
from node.tracker.states import FINISHED, Kind
from node.web.access import Operator, Viewer
from node.web.responses import redirect, render
from node.web.site import CurrentSite, Site

router = APIRouter()

WAITING, ERRORS = 8, 8


@dataclass(frozen=True)
class Disk:
    """The disk of the data folder."""

    free: int
    total: int
    reserve: float
    days_left: float | None
    """Until only the reserve is left, as fast as data came in the last days; None when none came."""


@dataclass(frozen=True)
class Column:
    """One hour in the chart, in its own units; (y, height) of each bar."""

    x: float
    received: tuple[float, float]
    matched: tuple[float, float]
    delivered: tuple[float, float]
    label: str
    title: str


@router.get("/", name="dashboard")
def page(request: Request, site: CurrentSite, identity: Viewer) -> HTMLResponse:
    """The whole page."""
    return render(request, "dashboard.html", identity, **_facts(site, identity.phi))


@router.get("/dashboard")
def live(request: Request, site: CurrentSite, identity: Viewer) -> HTMLResponse:
    """The part that the page replaces by itself every few seconds."""
    return render(request, "_dashboard.html", identity, **_facts(site, identity.phi))


@router.post("/pauses")
def pause(
    request: Request,
    site: CurrentSite,
    identity: Operator,
    what: Annotated[str, Form()],
    act: Annotated[str, Form(pattern="^(pause|resume)$")],
) -> Response:
    """Pause or resume inference, or one destination. It holds until it is resumed, over restarts too."""
    names = [destination.name for destination in site.settings.destinations]
    if what != pauses.INFERENCE and what not in [pauses.deliveries_to(name) for name in names]:
        raise NotFoundError("there is nothing of that name to pause")
    if act == "pause":
        pauses.pause(site.tracker, what, identity.user.name)
    else:
        pauses.resume(site.tracker, what, identity.user.name)
    return redirect(request, "/")


def _facts(site: Site, phi: bool) -> dict[str, Any]:
    database, now = site.tracker.database, datetime.now().astimezone()
    hours = overview.hours(database, now)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    today = [hour for hour in hours if hour.begins >= midnight]
    waiting_count, waiting = overview.waiting(database, WAITING, phi=phi)
    counts = views.job_counts(database)
    return {
        "today": {name: sum(getattr(hour, name) for hour in today) for name in ("received", "matched", "delivered")},
        "columns": _columns(hours),
        "counts": {kind: states for kind, states in counts.items() if states},
        "open_jobs": sum(n for states in counts.values() for state, n in states.items() if state not in FINISHED),
        "waiting_count": waiting_count,
        "waiting": waiting,
        "destinations": overview.destinations(database, [d.name for d in site.settings.destinations]),
        "echoes": peers.echoes(database),
        "paused": pauses.paused(database),
        "inference": pauses.INFERENCE,
        "deliveries_to": pauses.deliveries_to,
        "disk": _disk(site, now),
        "model": site.model,
        "device": overview.last_device(database),
        "errors": overview.last_errors(database, ERRORS),
        "inferring": Kind.INFER,
    }


def _disk(site: Site, now: datetime) -> Disk:
    usage = shutil.disk_usage(site.settings.archive_folder or site.settings.node.data_dir)
    reserve = site.settings.storage.reserve_gb * 1e9
    rate = overview.received_per_day(site.tracker.database, now)
    return Disk(usage.free, usage.total, reserve, max(0.0, usage.free - reserve) / rate if rate else None)


def _columns(hours: list[overview.Hour]) -> list[Column]:
    """Bars of the chart, 480 x 100: three to an hour, side by side."""
    top = max([1, *(max(hour.received, hour.matched, hour.delivered) for hour in hours)])

    def bar(count: int) -> tuple[float, float]:
        height = round(88 * count / top, 2)
        return round(90 - height, 2), height

    return [
        Column(
            x=20 * i,
            received=bar(hour.received),
            matched=bar(hour.matched),
            delivered=bar(hour.delivered),
            label=hour.begins.astimezone().strftime("%H") if i % 4 == 3 else "",
            title=f"from {hour.begins.astimezone():%H:%M}: {hour.received} studies received, {hour.matched} pairs matched, "
            f"{hour.delivered} results delivered",
        )
        for i, hour in enumerate(hours)
    ]
