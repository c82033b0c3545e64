"""A node with images to read by DICOMweb: two studies, one of them with a derived series."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom import Dataset, dcmread
from pydicom.uid import JPEGLSLossless

from node.dicom.transfer_syntax import recode, to_bytes
from node.tracker.states import Kind, State
from node.tracker.tables import Job
from node.web.server import WebServer
from node.web.site import Site
from tests.dicom import mr_series, study
from tests.unit.node.kept import keep
from tests.web.conftest import PASSWORD, make_site

AUTH = ("anna", PASSWORD)


@dataclass
class Shelf:
    """A site with two studies: one of T2, T1 and a derived series that is compressed, and one of another patient."""

    site: Site
    root: str
    t2: list[Dataset]
    t1: list[Dataset]
    derived: list[Dataset]
    other: Dataset

    @property
    def uid(self) -> str:
        return str(self.t2[0].StudyInstanceUID)

    def client(self, name: str = "anna") -> DICOMwebClient:
        return DICOMwebClient(self.root, session=create_session_from_user_pass(name, PASSWORD))

    def get(self, path: str, accept: str | None = None, auth: tuple[str, str] | None = AUTH) -> httpx2.Response:
        headers = {} if accept is None else {"Accept": accept}
        return httpx2.get(f"{self.root}/{path}", headers=headers, auth=auth, timeout=60)

    def instance(self, image: Dataset) -> str:
        return f"studies/{self.uid}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}"


def _derived_from(image: Dataset) -> Dataset:
    made = dcmread(BytesIO(to_bytes(image)))
    made.SeriesInstanceUID, made.SOPInstanceUID = "1.2.3.9", f"1.2.3.9.{image.InstanceNumber}"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.SeriesDescription = "AI SR x4: T2"
    return recode(made, JPEGLSLossless)


@contextmanager
def served_shelf(folder: Path, **web: Any) -> Iterator[Shelf]:
    """The node, while its page is served."""
    site = make_site(folder, {"dicomweb": True, **web})
    t2, t1 = study(3)
    t2[0].add_new(0x00091010, "OB", b"\x07" * 5000)
    (other,) = mr_series(1)
    other.PatientName, other.PatientID, other.StudyDate = "Zzyzx^Ärzte", "P_77", "20200102"
    other.SpecificCharacterSet = "ISO_IR 192"
    for image in (*t2, *t1, other):
        keep(site.tracker, site.archive, image)
    derived = [_derived_from(image) for image in t2]
    site.archive.put_derived("infer:1", [(str(d.SOPInstanceUID), to_bytes(d)) for d in derived], "page")
    now = datetime.now(UTC)
    with site.tracker.write() as session:
        session.add(
            Job(
                kind=Kind.INFER, key="infer:1", state=State.DONE, study_uid=t2[0].StudyInstanceUID, payload={},
                max_attempts=1, created_at=now, updated_at=now,
            )
        )  # fmt: skip
    server = WebServer(site)
    server.start()
    yield Shelf(site, f"{server.address}dicom-web", t2, t1, derived, other)
    server.stop()
