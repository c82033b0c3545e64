"""Fetching from a PACS that answers queries as a PACS may: with more than was asked for, partly, wrongly, or not."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as Find
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as Get
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as Move

from node.archive.facade import Archive
from node.config.settings import FetchSettings, SCPSettings, Settings
from node.receive.commitment_scp import Commitments
from node.receive.fetch import make_fetch_handler
from node.receive.server import Receiver
from node.receive.store import Store
from node.tracker import queue, views
from node.tracker.handle import Tracker
from node.tracker.instances import of_study
from node.tracker.outcomes import NewJob
from node.tracker.states import Kind, State
from node.tracker.worker import Lease
from tests.conftest import free_port, require
from tests.dicom import T1, mr_series, write
from tests.unit.node.kept import path_of, spoil
from tests.waiting import until

STUDY = "1.2.3"


@dataclass
class PACS:
    """A query/retrieve SCP; `misbehave` is called before a C-GET is answered, and may return a status to answer with."""

    series: dict[str, list[Dataset]] = field(default_factory=dict)
    misbehave: Callable[[Any], int | None] = lambda event: None
    counts: bool = True
    retrieved: list[str] = field(default_factory=list)
    gets: bool = True

    def start(self) -> Any:
        ae = AE("PACS")
        ae.require_called_aet = True
        ae.add_supported_context(Find)
        ae.add_supported_context(Move)
        if self.gets:
            ae.add_supported_context(Get)
        ae.add_supported_context(MRImageStorage, ExplicitVRLittleEndian, scu_role=True, scp_role=True)
        handlers: list[Any] = [(evt.EVT_C_FIND, self._find), (evt.EVT_C_GET, self._get), (evt.EVT_C_MOVE, self._move)]
        return ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    def add(self, number: int, instances: int = 2, **attributes: Any) -> str:
        uid = f"{STUDY}.{number}"
        self.series[uid] = mr_series(
            instances, study_uid=STUDY, series_uid=uid, series_number=number, frame_uid="1.9", **attributes
        )
        return uid

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        assert event.identifier.StudyInstanceUID == STUDY
        for uid, instances in self.series.items():  # as some PACS do, without regard for the modality asked for
            match = Dataset()
            match.QueryRetrieveLevel, match.StudyInstanceUID, match.SeriesInstanceUID = "SERIES", STUDY, uid
            match.Modality, match.SeriesNumber = instances[0].Modality, instances[0].SeriesNumber
            match.SeriesDescription = instances[0].get("SeriesDescription")
            if self.counts:
                match.NumberOfSeriesRelatedInstances = len(instances)
            yield 0xFF00, match

    def _get(self, event: Any) -> Iterator[Any]:
        uid = event.identifier.SeriesInstanceUID
        status = self.misbehave(event)
        yield 1 if status is not None else len(self.series[uid])
        if status is not None:
            yield status, None
            return
        self.retrieved.append(uid)
        for ds in self.series[uid]:
            yield 0xFF00, ds

    @staticmethod
    def _move(event: Any) -> Iterator[Any]:
        yield None, None  # the destination is unknown here


class Study:
    """A study that waits for its reference, and the fetch job for it, attempt by attempt."""

    def __init__(self, tracker: Tracker, store: Store) -> None:
        self.tracker, self.store = tracker, store

    def attempt(self, port: int, /, **settings: Any) -> tuple[State, str]:
        """What an attempt led to, and what it says."""
        fetch = FetchSettings(**({"ae_title": "PACS", "host": "127.0.0.1", "port": port, "timeout_s": 300} | settings))
        work = make_fetch_handler(self.store, fetch, Settings())
        queue.enqueue(
            self.tracker, NewJob(Kind.FETCH, f"fetch:{time.monotonic_ns()}", STUDY, {}, fetch.max_attempts), "test"
        )
        claim = queue.claim(self.tracker, Kind.FETCH, "host/receive/1")
        assert claim is not None
        with Lease(self.tracker, claim, threading.Event()) as lease:
            state = queue.settle(self.tracker, claim, work(lease))
        return state, views.job(self.tracker.database, claim.job_id).events[-1].why

    @property
    def held(self) -> dict[str, int]:
        return dict(self.store.intact(STUDY))


@pytest.fixture
def study(tracker: Tracker, store: Store) -> Study:
    return Study(tracker, store)


@pytest.fixture
def serve() -> Iterator[Callable[[PACS], int]]:
    servers = []

    def start(pacs: PACS) -> int:
        servers.append(pacs.start())
        port: int = servers[-1].socket.getsockname()[1]
        return port

    yield start
    for server in servers:
        server.shutdown()


Serve = Callable[[PACS], int]


def test_what_the_pacs_holds_and_we_do_not_is_fetched_and_reopens_the_study(
    study: Study, serve: Serve, archive: Archive
) -> None:
    pacs = PACS()
    t1 = pacs.add(1)
    port = serve(pacs)
    assert study.attempt(port) == (State.DONE, "fetched 2 instances of 1 series")
    assert study.held == {t1: 2}
    (match,) = views.jobs(study.tracker.database, kind=Kind.MATCH)
    assert match.state == "receiving"
    state, says = study.attempt(port)
    assert state is State.RETRY_WAIT
    assert "has no further MR series" in says
    assert pacs.retrieved == [t1], "once"
    pacs.series[t1].extend(mr_series(1, study_uid=STUDY, series_uid=t1))
    assert study.attempt(port) == (State.DONE, "fetched 1 instances of 1 series"), (
        "a series we hold in part is completed"
    )
    for damage, ds in ((Path.unlink, pacs.series[t1][0]), (spoil, pacs.series[t1][1])):
        damage(path_of(study.tracker, archive, ds))
    assert study.attempt(port) == (State.DONE, "fetched 2 instances of 1 series"), (
        "what is lost or damaged is fetched again"
    )
    assert study.held == {t1: 3}


def test_what_cannot_be_a_reference_is_left_where_it_is(study: Study, serve: Serve) -> None:
    pacs = PACS()
    pacs.add(1, Modality="SR")
    pacs.add(2, SeriesDescription="AI SR x4: t2")
    pacs.add(3, SeriesDescription="ax DWI b1000")
    pacs.add(4, instances=4)
    t1 = pacs.add(5)
    state, _ = study.attempt(serve(pacs), max_instances=3)
    assert state is State.DONE
    assert study.held == {t1: 2}


def test_a_few_series_at_a_time(study: Study, serve: Serve) -> None:
    pacs = PACS()
    uids = [pacs.add(number, instances=1) for number in (3, 1, 2)]
    port = serve(pacs)
    study.attempt(port, max_series=2)
    assert pacs.retrieved == sorted(uids)[:2]
    study.attempt(port, max_series=2)
    assert pacs.retrieved == sorted(uids)


def test_a_pacs_that_does_not_count_is_asked_once_for_each_series(study: Study, serve: Serve) -> None:
    pacs = PACS(counts=False)
    t1 = pacs.add(1)
    port = serve(pacs)
    assert study.attempt(port)[0] is State.DONE
    assert study.attempt(port)[0] is State.RETRY_WAIT
    assert pacs.retrieved == [t1]


def test_when_there_is_nothing_to_the_last_attempt_nothing_has_failed(study: Study, serve: Serve) -> None:
    state, says = study.attempt(serve(PACS()), max_attempts=1)
    assert state is State.DONE
    assert "the request is not repeated" in says


def test_one_series_that_cannot_be_had_does_not_stand_in_the_way_of_the_others(study: Study, serve: Serve) -> None:
    pacs = PACS()
    pacs.misbehave = lambda event: 0xA702 if event.identifier.SeriesInstanceUID.endswith(".1") else None
    bad, good = pacs.add(1), pacs.add(2)
    state, says = study.attempt(serve(pacs), max_series=1)
    assert state is State.DONE
    assert study.held == {good: 2}
    assert f"series {bad}: C-GET answered 0xA702 (out of resources: unable to perform sub-operations)" in says


def test_a_success_that_brought_nothing_is_no_success(study: Study, serve: Serve) -> None:
    pacs = PACS()
    t1 = pacs.add(1)
    pacs._get = lambda event: iter([0])  # type: ignore[method-assign]
    state, says = study.attempt(serve(pacs))
    assert state is State.RETRY_WAIT
    assert f"series {t1}: the PACS answered success, but sent no new instance" in says


def test_a_refused_retrieval_is_tried_again(study: Study, serve: Serve) -> None:
    pacs = PACS(misbehave=lambda event: 0xA701)
    pacs.add(1)
    state, says = study.attempt(serve(pacs))
    assert state is State.RETRY_WAIT
    assert "0xA701" in says


def _abort(event: Any) -> None:
    event.assoc.abort()


@pytest.mark.parametrize("silent", [False, True], ids=["aborts", "is silent"])
def test_a_pacs_that_goes_away(study: Study, serve: Serve, silent: bool) -> None:
    over = threading.Event()
    pacs = PACS(misbehave=(lambda event: over.wait() and None) if silent else _abort)
    pacs.add(1)
    port = serve(pacs)
    state, says = study.attempt(port, timeout_s=4 if silent else 300)
    over.set()
    assert state is State.RETRY_WAIT
    for part in (
        "the PACS configured in [fetch]",
        f"PACS at 127.0.0.1:{port}",
        "calling as DIFFMSR",
        "no answer to the C-GET",
    ):
        assert part in says


@pytest.mark.parametrize(
    ("pacs", "settings", "says"),
    [
        (PACS(), {"ae_title": "OTHER"}, "called ae title not recognised"),
        (PACS(), {"port": free_port()}, "connection refused"),
        (PACS(gets=False), {}, "does not accept Study Root Query/Retrieve Information Model - GET"),
        (PACS(), {"method": "move"}, "0xA801 (the PACS does not know our AE title as a move destination)"),
    ],
    ids=["wrong AE title", "nobody there", "no C-GET", "no move destination"],
)
def test_a_pacs_that_cannot_be_asked(
    study: Study, serve: Serve, pacs: PACS, settings: dict[str, Any], says: str
) -> None:
    pacs.add(1)
    state, said = study.attempt(serve(pacs), **settings)
    assert state is State.RETRY_WAIT
    assert says in said
    assert "\n" not in said


@pytest.mark.parametrize("method", ["get", "move"])
def test_dcmqrscp_of_dcmtk(
    study: Study, tracker: Tracker, archive: Archive, store: Store, tmp_path: Path, method: str
) -> None:
    port, ours = free_port(), free_port()
    (tmp_path / "db").mkdir()
    (tmp_path / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 4\n"
        f"HostTable BEGIN\nnode = (DIFFMSR, 127.0.0.1, {ours})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nPACS {tmp_path / 'db'} RW (10, 100mb) ANY\nAETable END\n"
    )
    instances = mr_series(4, study_uid=STUDY, **T1)
    files = write(instances, tmp_path / "t1")
    commitments = Commitments(tracker, archive, [], "DIFFMSR")
    receiver = Receiver(SCPSettings(host="127.0.0.1", port=ours), [], store, commitments)
    receiver.start()
    pacs = subprocess.Popen([require("dcmqrscp"), "-c", tmp_path / "dcmqrscp.cfg"])
    try:
        fill = [require("dcmsend"), "-aec", "PACS", "127.0.0.1", str(port), *files]

        def filled() -> bool:
            assert pacs.poll() is None, "dcmqrscp has ended"
            return subprocess.run(fill, check=False, capture_output=True).returncode == 0

        until(filled, "dcmqrscp takes the series")
        said = study.attempt(port, method=method)
    finally:
        pacs.terminate()
        pacs.wait()
        receiver.stop(1)
    assert said == (State.DONE, "fetched 4 instances of 1 series")
    stored = of_study(tracker, archive, STUDY)
    for ds in instances:
        assert np.array_equal(stored[ds.SOPInstanceUID].read_instance().pixel_array, ds.pixel_array)
