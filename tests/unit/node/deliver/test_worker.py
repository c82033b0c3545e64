"""The deliver stage on a tracker and an archive as the other stages leave them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from sqlalchemy import delete, update

from node.config.settings import DestinationSettings, OutputSettings, Settings
from node.deliver.worker import PATIENCE_WITH_REFUSALS
from node.tracker.audit import Action
from node.tracker.states import Kind, State
from node.tracker.studies import StudyState
from node.tracker.tables import Event, Job, Study
from tests.conftest import free_port
from tests.unit.node.kept import spoil
from tests.unit.node.super_resolved import SuperResolved
from tests.unit.node.tracker.jobs import audited


@pytest.fixture
def node(tmp_path: Path, study: Any) -> Iterator[SuperResolved]:
    made = SuperResolved(tmp_path, study)
    yield made
    made.database.dispose()


def named(destination: DestinationSettings, name: str) -> DestinationSettings:
    return destination.model_copy(update={"name": name})


def test_images_then_mark_then_report_and_each_destination_the_same(node: SuperResolved, storescp: Any) -> None:
    destinations, folders = zip(*(storescp() for _ in range(2)), strict=True)
    settings = Settings(
        destinations=[named(d, name) for d, name in zip(destinations, ("one", "two"), strict=True)],
        output=OutputSettings(presentation_state=True),
    )
    assert node.derive(settings) is State.DONE
    received = []
    for folder in folders:
        assert node.deliver(settings) is State.DONE
        received.append({ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, folder.iterdir())})
    assert received[0] == received[1]
    in_order = [received[0][uid] for uid in node.derived()]
    assert [ds.Modality for ds in in_order] == ["MR", "MR", "MR", "PR", "SR"]
    assert [ds.InstanceNumber for ds in in_order[:3]] == [1, 2, 3]
    assert [ds.SeriesNumber for ds in in_order[2:]] == [9005, 29005, 19005]


def test_a_pacs_that_stores_images_only_gets_the_images(node: SuperResolved) -> None:
    stored: list[str] = []
    ae = AE("PACS")
    ae.add_supported_context(MRImageStorage, ExplicitVRLittleEndian)
    handlers = [(evt.EVT_C_STORE, lambda event: stored.append(event.request.AffectedSOPClassUID) or 0)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        destination = DestinationSettings(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=server.socket.getsockname()[1], timeout_s=300
        )
        output = OutputSettings(presentation_state=True, parametric_map=True)
        settings = Settings(destinations=[destination], output=output)
        node.derive(settings)
        assert node.deliver(settings) is State.DONE
    finally:
        server.shutdown()
    assert stored == [MRImageStorage] * 3
    job = node.last(Kind.DELIVER)
    assert [i.accepted for i in job.instances] == [True] * 3
    assert job.events[-1].why == (
        "pacs has accepted all 3 instances; left out, because it does not store such objects: "
        "Grayscale Softcopy Presentation State Storage, Parametric Map Storage, Comprehensive 3D SR Storage"
    )
    assert audited(node.tracker, Action.SENT) == [
        ("host/deliver/1", node.request.study_uid, {"destination": "pacs", "instances": 3, "job": job.id})
    ]


def test_a_pacs_that_was_away_may_refuse_at_first(node: SuperResolved) -> None:
    """One that has just been started refuses what it accepts a minute later, and attempts that never reached it say nothing
    about that."""
    destination = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port(), timeout_s=300)
    settings = Settings(destinations=[destination])
    node.derive(settings)
    for _ in range(PATIENCE_WITH_REFUSALS):
        assert node.deliver(settings) is State.RETRY_WAIT
        node.now += timedelta(hours=1)
    ae = AE("PACS")
    for sop_class in (MRImageStorage, Comprehensive3DSRStorage):
        ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
    server = ae.start_server(
        ("127.0.0.1", destination.port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: 0x0122)]
    )
    try:
        assert node.deliver(settings) is State.RETRY_WAIT
        node.now += timedelta(hours=1)
        assert node.deliver(settings) is State.FAILED, "it has repeated that"
    finally:
        server.shutdown()


@pytest.mark.parametrize("lost", ["index.json", "*.dcm"])
@pytest.mark.parametrize("damage", [Path.unlink, spoil], ids=["missing", "damaged"])
def test_what_was_derived_and_is_lost_is_made_again_before_anything_is_sent(
    node: SuperResolved, storescp: Any, lost: str, damage: Any
) -> None:
    destination, folder = storescp()
    settings = Settings(destinations=[destination])
    node.derive(settings)
    for path in node.derived_folder().glob(lost):
        damage(path)
    assert node.deliver(settings) is State.RETRY_WAIT
    waiting = node.last(Kind.DELIVER)
    assert waiting.attempts == 0, "waiting is not an attempt"
    assert "waits for derive job" in waiting.error
    assert not list(folder.iterdir())
    assert node.derive(settings) is State.DONE
    assert node.deliver(settings) is State.DONE, "due at once"
    assert len(list(folder.iterdir())) == 4


def test_a_delivery_of_a_tracker_without_derive_jobs_goes_the_same_way(node: SuperResolved, storescp: Any) -> None:
    destination, folder = storescp()
    settings = Settings(destinations=[destination])
    node.derive(settings)
    older_version(node)
    assert node.deliver(settings) is State.RETRY_WAIT
    assert node.derive(settings) is State.DONE
    assert node.last(Kind.DERIVE).parent_id == node.last(Kind.INFER).id
    assert node.last(Kind.DELIVER).parent_id == node.last(Kind.DERIVE).id
    assert node.deliver(settings) is State.DONE
    with node.tracker.read() as session:
        study = session.get_one(Study, node.request.study_uid)
    assert study.state == StudyState.DELIVERED, "though the delivery is older than its derive job"
    assert len(list(folder.iterdir())) == 4


def test_a_delivery_of_a_tracker_without_derive_jobs_uses_what_was_derived(node: SuperResolved, storescp: Any) -> None:
    destination, folder = storescp()
    settings = Settings(destinations=[destination])
    node.derive(settings)
    older_version(node, derived=True)
    assert node.deliver(settings) is State.DONE
    assert node.jobs(Kind.DERIVE) == []
    assert len(list(folder.iterdir())) == 4


def older_version(node: SuperResolved, derived: bool = False) -> None:
    """Leave the delivery as a version before derive jobs would: a child of the infer job, and nothing derived yet unless
    it was tried before."""
    infer, derive = node.last(Kind.INFER).id, node.last(Kind.DERIVE).id
    with node.tracker.write() as session:
        session.execute(update(Job).where(Job.kind == Kind.DELIVER).values(parent_id=infer))
        session.execute(delete(Event).where(Event.job_id == derive))
        session.execute(delete(Job).where(Job.id == derive))
    if not derived:
        for path in node.derived_folder().iterdir():
            path.unlink()


def test_a_destination_that_is_no_longer_configured_fails_in_words(node: SuperResolved) -> None:
    node.derive(Settings(destinations=[DestinationSettings(name="gone", ae_title="GONE", host="127.0.0.1")]))
    assert node.deliver(Settings()) is State.FAILED
    assert "'gone'" in (node.jobs(Kind.DELIVER)[0][1] or "")
