"""Whether the service lives, whether it can do its work, and its metrics: for a supervisor, a load balancer or Prometheus,
without a log-in."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from node.web.metrics import Metrics
from node.web.site import CurrentSite

router = APIRouter()


@router.get("/health/live")
def live() -> JSONResponse:
    """200 as long as the process answers."""
    return JSONResponse({"status": "live"})


@router.get("/health/ready")
def ready(site: CurrentSite) -> JSONResponse:
    """200 when every precondition holds, else 503 with the names of those that do not. Only names: what they say may
    hold paths and addresses, which are for people who log in."""
    failing = site.failing()
    status = "not ready" if failing else "ready"
    return JSONResponse({"status": status, "failing": failing}, 503 if failing else 200)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """What `metrics.py` counts."""
    counted: Metrics = request.app.state.metrics
    return Response(counted.text(), media_type=CONTENT_TYPE_LATEST)
