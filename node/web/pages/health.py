"""Whether the service lives, and whether it can do its work: for a supervisor or a load balancer, without a log-in."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from node.web.site import CurrentSite

router = APIRouter(prefix="/health")


@router.get("/live")
def live() -> JSONResponse:
    """200 as long as the process answers."""
    return JSONResponse({"status": "live"})


@router.get("/ready")
def ready(site: CurrentSite) -> JSONResponse:
    """200 when every precondition holds, else 503 with the names of those that do not. Only names: what they say may
    hold paths and addresses, which are for people who log in."""
    failing = site.failing()
    status = "not ready" if failing else "ready"
    return JSONResponse({"status": status, "failing": failing}, 503 if failing else 200)
