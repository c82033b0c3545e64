"""The viewer, and the layers it shows: read from the archive by slice, never computed by a request."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import HTMLResponse

from node.archive.layers import LayersFile
from node.errors import MissingError, NotFoundError
from node.tracker import views
from node.tracker.audit import Action, audit
from node.web.access import Viewer
from node.web.responses import render
from node.web.site import CurrentSite, Site

router = APIRouter()

KEYS = (
    ("↑ ↓", "previous and next slice"),
    ("PageUp PageDown Home End", "five slices, the first, the last"),
    ("1 2 3 4", "side by side, slider, difference, expected error"),
    ("← →", "move the slider's divider"),
    ("+ −", "zoom"),
    ("Shift+↑↓←→", "pan"),
    ("W N", "wider and narrower window"),
    (". ,", "brighter and darker"),
    ("T", "choose which window those keys change: T2, T1, the difference or the expected error"),
    ("C", "cursor: arrows move it, Shift by 10 pixels"),
    ("M", "measure: a region; arrows move it, Shift and arrows change its size, Delete removes it"),
    ("Esc", "end the cursor or the measuring"),
    ("I", "interpolate or show pixels"),
    ("S", "save what is shown as PNG"),
    ("R", "reset"),
    ("D", "light or dark"),
)

JobId = Annotated[int, Path(ge=1, le=2**63 - 1)]

_PRIVATE = {"Cache-Control": "private, no-cache"}
"""The browser may keep a slice, and asks each time whether it may still show it."""


@router.get("/jobs/{job_id}/viewer", name="viewer")
def page(request: Request, site: CurrentSite, identity: Viewer, job_id: JobId) -> HTMLResponse:
    """The result of an infer job, or what a deliver job sends, beside what it was made from."""
    with _opened(site, job_id) as layers:
        scale, shown = layers.info.scale, [layer.name for layer in layers.info.layers]
    job = views.job(site.tracker.database, job_id)
    audit(site.tracker, Action.VIEWED, identity.user.name, job.study_uid, {"job": job_id, "what": "images"})
    labels = {
        "zero_filled": "T2 zero-filled",
        "super_resolved": f"T2 AI SR x{scale}",
        "reference": "T1 reference",
        "difference": "SR - zero-filled",
        "expected_error": "expected absolute error",
    }
    labels = {name: label for name, label in labels.items() if name in (*shown, "difference")}
    return render(request, "viewer.html", identity, job=job, labels=labels, layers=shown, keys=KEYS)


@router.get("/jobs/{job_id}/layers", name="layers")
def geometry(request: Request, site: CurrentSite, identity: Viewer, job_id: JobId) -> Response:
    """The description of the layers: size, place in the patient, slopes and windows."""
    with _opened(site, job_id) as layers:
        info = layers.info
    return _cached(request, info.sha256, lambda: info.model_dump_json().encode(), "application/json")


@router.get("/jobs/{job_id}/layers/slices/{index}", name="slice")
def layers_slice(
    request: Request, site: CurrentSite, identity: Viewer, job_id: JobId, index: Annotated[int, Path(ge=0)]
) -> Response:
    """One slice of all layers: uint16 little-endian, layer after layer in the order of the description."""
    with _opened(site, job_id) as layers:
        if index >= layers.info.slices:
            raise NotFoundError(f"slice {index} of {layers.info.slices}")
        tag = f"{layers.info.sha256}-{index}"
        return _cached(request, tag, lambda: layers.read_slice(index), "application/octet-stream")


@contextmanager
def _opened(site: Site, job_id: int) -> Iterator[LayersFile]:
    """The layers of the result that the job makes or sends. NotFoundError when there are none to show."""
    name, _ = views.result_of(site.tracker.database, job_id)
    try:
        with site.archive.layers(name) as layers:
            yield layers
    except MissingError:
        raise NotFoundError(
            "there are no images to show: the job is not done yet, or its result was removed because it was kept long enough"
        ) from None


def _cached(request: Request, tag: str, content: Callable[[], bytes], media_type: str) -> Response:
    """The content, or 304 when the browser has it already."""
    headers = _PRIVATE | {"ETag": f'"{tag}"'}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content(), media_type=media_type, headers=headers)
