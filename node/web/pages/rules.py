"""The rule tester: DICOM files in, the verdict of the configured rules out. Nothing is kept.

The same code as `diffmsr-node explain FOLDER`, which the service hands in: pages import no stage.
"""

from dataclasses import dataclass
from typing import BinaryIO

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from pydicom import Dataset
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from node.dicom.read import read_part10
from node.tracker.audit import Action, audit
from node.web import words
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


@dataclass(frozen=True)
class Upload:
    """A file as the browser sent it, to be read like any other instance. As text it is its name."""

    name: str
    file: BinaryIO

    def content(self) -> bytes:
        """The bytes of the file."""
        self.file.seek(0)
        return self.file.read()

    def read_header(self) -> Dataset:
        """The data set without its pixels. DamagedFileError when it is not DICOM, or damaged."""
        return self._read(stop_before_pixels=True)

    def read_instance(self) -> Dataset:
        """The data set. Raises as `read_header`."""
        return self._read(stop_before_pixels=False)

    def _read(self, *, stop_before_pixels: bool) -> Dataset:
        self.file.seek(0)
        return read_part10(self.file, self, stop_before_pixels=stop_before_pixels)

    def __str__(self) -> str:
        return self.name


def _explain(request: Request, site: Site, identity: Identity, files: list[UploadFile]) -> HTMLResponse:
    uploads = [Upload(words.plain(file.filename or f"file {n + 1}"), file.file) for n, file in enumerate(files)]
    verdicts, skipped = site.explain(uploads)
    audit(site.tracker, Action.VIEWED, identity.user.name, details={"what": "rule tester", "files": len(files)})
    return render(request, "_verdicts.html", identity, verdicts=verdicts, skipped=skipped, files=len(files))
