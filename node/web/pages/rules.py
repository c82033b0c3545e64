"""The rule tester: DICOM files in, the verdict of the configured rules out. Nothing is kept.

The same code as `diffmsr-node explain FOLDER`, which the service hands in: pages import no stage.
"""

import shutil
import tempfile
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from node.tracker.audit import Action, audit
from node.web.access import Identity, Poster, Viewer
from node.web.responses import render
from node.web.site import CurrentSite, Site

router = APIRouter()

MOST_FILES = 5000


@router.get("/rules", name="rules")
def page(request: Request, site: CurrentSite, identity: Viewer) -> HTMLResponse:
    """Where to drop the files."""
    return render(request, "rules.html", identity, limit_mb=site.settings.web.max_upload_mb, most_files=MOST_FILES)


@router.post("/rules")
async def test(request: Request, site: CurrentSite, identity: Poster) -> HTMLResponse:
    """The verdict on what was dropped."""
    limit = site.settings.web.max_upload_mb * 1_000_000
    try:
        length = int(request.headers.get("content-length", ""))
    except ValueError:
        raise HTTPException(411, "The browser did not say how large the files are.") from None
    if length > limit:
        raise HTTPException(413, f"These are {length / 1e6:.0f} MB; at most {limit / 1e6:.0f} MB at a time.")
    async with request.form(max_files=MOST_FILES, max_fields=10) as form:
        files = [file for file in form.getlist("file") if isinstance(file, UploadFile) and file.size]
        return await run_in_threadpool(_explain, request, site, identity, files)


def _explain(request: Request, site: Site, identity: Identity, files: list[UploadFile]) -> HTMLResponse:
    with tempfile.TemporaryDirectory(prefix="diffmsr-rules-") as folder:
        names = {}
        for number, file in enumerate(files):
            path = Path(folder) / f"{number:05d}"  # never by the name it has on the other machine
            with path.open("wb") as copy:
                shutil.copyfileobj(file.file, copy)
            names[path] = Path(file.filename or f"file {number + 1}").name
        explained = site.explain(list(names))
    skipped = [(names.get(path, "a file"), why.replace(folder, "")) for path, why in explained.skipped]
    audit(site.tracker, Action.VIEWED, identity.user.name, details={"what": "rule tester", "files": len(files)})
    return render(request, "_verdicts.html", identity, verdicts=explained.verdicts, skipped=skipped, files=len(files))
