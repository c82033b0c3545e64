"""The deliver stage on a tracker and an archive as the other stages leave them."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt

from node.archive.facade import Archive
from node.config.settings import DestinationSettings, OutputSettings, ReportSettings, Settings
from node.deliver.worker import derive, make_deliver_handler
from node.dicom.transfer_syntax import to_bytes
from node.payloads import PairRequest, StackRequest
from node.tracker import arrivals, queue, views
from node.tracker.arrivals import Arrival
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import NewJob
from node.tracker.states import Kind, State
from node.tracker.worker import Lease

KEY = "infer:1"


class Node:
    """A study received and super-resolved."""

    def __init__(self, folder: Path, study: Any) -> None:
        self.database = Database(f"sqlite:///{folder / 'tracker.sqlite3'}")
        self.database.upgrade()
        self.tracker = Tracker(self.database, clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))
        self.archive = Archive(folder / "data")
        for ds in (*study.target, *study.reference):
            names = str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID)
            path = self.archive.put_instance(*names, to_bytes(ds))
            syntax = str(ds.file_meta.TransferSyntaxUID)
            arrivals.record(
                self.tracker,
                Arrival(names[2], names[1], names[0], str(ds.SOPClassUID), syntax, str(path), names[2], 1, "MR1"),
                10,
            )
        target, reference = (
            StackRequest(
                series_uid=headers[0].SeriesInstanceUID, contrast=contrast,
                sop_uids=tuple(ds.SOPInstanceUID for ds in headers),
            )
            for headers, contrast in ((study.target, "T2"), (study.reference, "T1"))
        )  # fmt: skip
        self.order = PairRequest(study_uid=study.target[0].StudyInstanceUID, target=target, reference=reference)
        self.archive.put_result(KEY, study.result)
        queue.ask(
            self.tracker, NewJob(Kind.INFER, KEY, self.order.study_uid, self.order.model_dump(mode="json"), 3), "test"
        )

    def deliver(self, settings: Settings, name: str) -> State:
        payload = {"destination": name, "result": KEY, "request": self.order.model_dump(mode="json")}
        queue.ask(self.tracker, NewJob(Kind.DELIVER, f"{KEY}:{name}", self.order.study_uid, payload, 5), "test")
        claim = queue.claim(self.tracker, Kind.DELIVER, "host/deliver/1")
        assert claim is not None
        with Lease(self.tracker, claim, threading.Event()) as lease:
            return queue.settle(self.tracker, claim, make_deliver_handler(self.tracker, self.archive, settings)(lease))

    def last(self) -> dict[str, Any]:
        return views.job(self.database, views.jobs(self.database, kind=Kind.DELIVER)[-1]["id"])


@pytest.fixture
def node(tmp_path: Path, study: Any) -> Iterator[Node]:
    made = Node(tmp_path, study)
    yield made
    made.database.dispose()


def test_images_then_mark_then_report_and_each_destination_the_same(node: Node, storescp: Any) -> None:
    output = OutputSettings(presentation_state=True)
    received = []
    for name in ("one", "two"):
        destination, folder = storescp()
        settings = Settings(destinations=[destination.model_copy(update={"name": name})], output=output)
        assert node.deliver(settings, name) is State.DONE
        received.append({ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, folder.iterdir())})
    assert received[0] == received[1]
    kept = node.archive.derived(KEY)
    assert kept is not None
    assert list(kept) == [path.name[6:-4] for path in sorted(kept.values())], "in the order to be sent"
    in_order = [received[0][uid] for uid in kept]
    assert [ds.Modality for ds in in_order] == ["MR", "MR", "MR", "PR", "SR"]
    assert [ds.InstanceNumber for ds in in_order[:3]] == [1, 2, 3]
    assert [ds.SeriesNumber for ds in in_order[2:]] == [9005, 29005, 19005]
    assert "Super-resolution report" in node.archive.report_page(KEY).read_text()


def test_a_result_is_encoded_once(node: Node) -> None:
    made = derive(node.database, node.archive, KEY, node.order, Settings())
    before = {uid: path.read_bytes() for uid, path in made.items()}
    other = Settings(output=OutputSettings(series_number_offset=100), report=ReportSettings(sop_class="none"))
    again = derive(node.database, node.archive, KEY, node.order, other)
    assert {uid: path.read_bytes() for uid, path in again.items()} == before


def test_half_of_an_encoding_counts_for_nothing(node: Node) -> None:
    made = derive(node.database, node.archive, KEY, node.order, Settings())
    before = {uid: path.read_bytes() for uid, path in made.items()}
    (node.archive.derived_folder(KEY) / "index.json").unlink()  # a crash before it was written
    next(iter(made.values())).write_bytes(b"half")
    again = derive(node.database, node.archive, KEY, node.order, Settings())
    assert {uid: path.read_bytes() for uid, path in again.items()} == before


def test_a_pacs_that_stores_images_only_gets_the_images(node: Node) -> None:
    stored: list[str] = []
    ae = AE("PACS")
    ae.add_supported_context(MRImageStorage, ExplicitVRLittleEndian)
    handlers = [(evt.EVT_C_STORE, lambda event: stored.append(event.request.AffectedSOPClassUID) or 0)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        destination = DestinationSettings(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=server.socket.getsockname()[1], timeout_s=5
        )
        settings = Settings(destinations=[destination], output=OutputSettings(presentation_state=True))
        assert node.deliver(settings, "pacs") is State.DONE
    finally:
        server.shutdown()
    assert stored == [MRImageStorage] * 3
    job = node.last()
    assert [i["accepted"] for i in job["instances"]] == [True] * 3
    assert job["events"][-1]["why"] == "pacs has accepted all 3 instances"
