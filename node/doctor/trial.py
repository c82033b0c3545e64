"""A marked test series, sent to a destination as a result would be: accepted, found again by C-FIND, committed."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from node.checks import Check, Level
from node.config.settings import DestinationSettings, Settings
from node.deliver.commitment_scu import found, request_commitment
from node.deliver.transport import send
from node.demo.figures import SAMPLE
from node.dicom.read import InstanceFile
from node.dimse.associations import Peer
from node.dimse.commitment_messages import Report
from node.errors import NodeError, PeerError
from node.identity import MANUFACTURER

PATIENT_ID = "DIFFMSR-TEST"


def trials(settings: Settings) -> Iterator[Check]:
    """One answer for each destination. It leaves one image there, and says how to find it."""
    for destination in settings.destinations:
        with tempfile.TemporaryDirectory(prefix="diffmsr-doctor-") as scratch:
            path = Path(scratch) / "test.dcm"
            image = marked_image()
            image.save_as(path, enforce_file_format=True)
            yield _trial(InstanceFile(path), image, destination, settings.scp.ae_title)


def marked_image() -> Dataset:
    """One slice of MR with a ramp of grey, new UIDs, and a patient that nobody can mistake for one."""
    image = dcmread(min((SAMPLE / "T2").glob("*.dcm")))
    image.PatientName, image.PatientID = "DIFFMSR^TEST", PATIENT_ID
    image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = (generate_uid(None) for _ in range(3))
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.StudyDescription = image.SeriesDescription = "DiffMSR node TEST, may be deleted"
    image.StudyID = image.AccessionNumber = ""
    image.Manufacturer = MANUFACTURER  # so that no node takes it for a target when the PACS routes it on
    ramp = np.linspace(0, 1000, image.Columns).astype(np.uint16)
    image.PixelData = np.tile(ramp, (image.Rows, 1)).tobytes()
    return image


def _trial(file: InstanceFile, image: Dataset, destination: DestinationSettings, calling: str) -> Check:
    name = f"test series to {destination.name}"
    remove = f"delete the study of patient {PATIENT_ID} there, {image.StudyInstanceUID}"
    try:
        (sent,) = send([file], destination, calling)
        if not sent.accepted:
            fix = "check the log of the PACS, and that it accepts MR images from this AE title"
            return Check(name, Level.FAIL, f"not accepted: {sent.words}", fix, failure=PeerError)
    except NodeError as error:
        return Check(name, Level.FAIL, str(error), "see above", failure=type(error))
    said = ["accepted"]
    if destination.url is not None:
        return Check(name, Level.OK, f"accepted; now {remove}")
    peer = Peer.destination(destination, calling)
    try:
        if not found(peer, [image]):
            fix = f"wait a moment and look for it in the PACS; then {remove}"
            return Check(name, Level.WARN, "accepted, but C-FIND does not list it", fix)
        said.append("found by C-FIND")
    except PeerError as error:
        said.append(f"C-FIND is not answered ({_reason(error)})")
    if destination.commitment:
        try:
            said.append(_committed(peer, image))
        except PeerError as error:
            what = f"{', '.join(said)}; storage commitment is not: {_reason(error)}"
            return Check(
                name,
                Level.FAIL,
                what,
                f"set commitment = false, or configure the PACS; then {remove}",
                failure=PeerError,
            )
    return Check(name, Level.OK, f"{', '.join(said)}; now {remove}")


def _committed(peer: Peer, image: Dataset) -> str:
    reports: list[Report] = []

    def record(report: Report) -> bool:
        reports.append(report)
        return True

    request_commitment(peer, generate_uid(None), [image], record, lambda: bool(reports))
    if not reports:
        return "commitment requested, the report will come on an association of its own"
    return "committed" if image.SOPInstanceUID in reports[0].committed_uids else "not committed"


def _reason(error: PeerError) -> str:
    return str(error).partition("): ")[2] or str(error)
