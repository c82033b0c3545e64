"""What holds of every study, whatever comes of it, in whatever order, with whatever pauses: contrasts, repeats, agents,
corrections, foreign objects, series that come twice.

`make soak` draws many more studies than CI does (DRAWN_STUDIES)."""

import os
import threading
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import RawDataStorage, generate_uid
from sqlalchemy import func, select

from node.codes import CODES
from node.dimse.status import StoreStatus
from node.payloads import PairRequest
from node.receive.store import Store
from node.tracker import blocked, queue, steps, views
from node.tracker.outcomes import Done
from node.tracker.states import CLAIMABLE, Kind, State
from node.tracker.tables import Instance, Job, Series, Study
from node.tracker.worker import Lease
from node.verdicts import failures
from tests.dicom import T2, mr_series, study
from tests.unit.node.receive.storing import sent

from .test_kept_pair import another_reference
from .test_worker import MatchStage

EXAMPLES = int(os.environ.get("DRAWN_STUDIES", "8"))


class Node(MatchStage):
    """The stages from receive to deliver, where super-resolving and sending come to nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, None)
        self.store = Store(self.archive, self.tracker, self.completion.series_quiet_s, keep_other=True)

    def take(self, packet: list[Dataset]) -> None:
        for ds in packet:
            assert self.store.put(sent(ds)) is StoreStatus.SUCCESS
            self.now += timedelta(milliseconds=10)

    def run(self) -> None:
        """Everything that is due."""
        while (claim := queue.claim(self.tracker, Kind.MATCH, "w")) is not None:
            with Lease(self.tracker, claim, threading.Event()) as lease:
                queue.settle(self.tracker, claim, self.work(lease))
        while (claim := queue.claim(self.tracker, Kind.INFER, "w")) is not None:
            request = PairRequest.model_validate(claim.payload)
            queue.settle(self.tracker, claim, Done("ok", None, (steps.derive_job(claim.key, request),)))
        while (claim := queue.claim(self.tracker, Kind.DERIVE, "w")) is not None:
            result = str(claim.payload["result"])
            request = PairRequest.model_validate(claim.payload["request"])
            queue.settle(self.tracker, claim, Done("ok", None, (steps.deliver_job(result, request, "pacs", 3),)))
        while (claim := queue.claim(self.tracker, Kind.DELIVER, "w")) is not None:
            queue.settle(self.tracker, claim, Done("sent"))


@dataclass
class Plan:
    """What a scanner and a PACS send of one study: packets, each with the pause after it."""

    packets: list[tuple[list[Dataset], int]]
    facts: set[str] = field(default_factory=set)

    @property
    def study_uid(self) -> str:
        return str(self.packets[0][0][0].StudyInstanceUID)


def foreign(beside: Dataset) -> Dataset:
    ds = deepcopy(beside)
    del ds.PixelData, ds.ImagePositionPatient
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = RawDataStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return ds


def sent_again(instances: list[Dataset]) -> list[Dataset]:
    copies = deepcopy(instances)
    for ds in copies:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return copies


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    t2, t1 = study(draw(st.integers(3, 5)))
    facts = draw(
        st.sets(st.sampled_from(["agent", "repeat", "foreign", "second T2", "corrected", "half corrected", "twin"]))
    )
    parts = [t2, t1]
    if "agent" in facts:
        parts.append(another_reference(t1))
        for ds in parts[-1]:
            ds.SeriesDescription = "t1 tra KM"
    if "repeat" in facts:
        parts.append(another_reference(t1))
        for ds in parts[-1]:
            ds.SeriesNumber = 11
    if "second T2" in facts:
        parts.append(mr_series(len(t2), study_uid=str(t2[0].StudyInstanceUID), frame_uid=str(t2[0].FrameOfReferenceUID),
                               series_number=3, **T2))  # fmt: skip
    if "foreign" in facts:
        parts.append([foreign(t1[0])])
    pieces: list[list[Dataset]] = []
    for part in parts:
        cut = draw(st.integers(0, len(part) - 1))
        pieces += [piece for piece in (part[:cut], part[cut:]) if piece]
    pieces = draw(st.permutations(pieces))
    if "twin" in facts:
        pieces.append(sent_again(t2))
    if facts & {"corrected", "half corrected"}:
        everything = [ds for piece in pieces for ds in piece]
        changed = deepcopy(t2[:2] if "half corrected" in facts else everything)
        for ds in changed:
            ds.PatientID = "P2"
        pieces.append(changed)
    pauses = draw(st.lists(st.sampled_from([0, 3, 15]), min_size=len(pieces), max_size=len(pieces)))
    return Plan(list(zip(pieces, pauses, strict=True)), facts)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("drawn"))
    yield node
    node.database.dispose()


@given(plans())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_study_comes_to_one_result_per_target_or_a_reason(node: Node, plan: Plan) -> None:
    note(f"{sorted(plan.facts)}, {[(p[0].SeriesNumber, len(p), pause) for p, pause in plan.packets]}")
    for packet, pause in plan.packets:
        node.take(packet)
        node.now += timedelta(seconds=pause)
        node.run()
        nothing_is_stuck(node)
    node.now += timedelta(seconds=15)
    node.run()
    nothing_is_stuck(node)
    each_instance_counts_once(node, plan)
    one_result_per_target(node, plan)
    refusals_say_what_differs(node, plan)


def nothing_is_stuck(node: Node) -> None:
    assert blocked.blocked(node.tracker, node.now) == []
    with node.tracker.read() as session:
        due = select(Job).where(Job.state.in_(CLAIMABLE), Job.next_attempt_at <= node.now)
        assert session.scalars(due).all() == []


def each_instance_counts_once(node: Node, plan: Plan) -> None:
    acknowledged = {str(ds.SOPInstanceUID) for packet, _ in plan.packets for ds in packet}
    with node.tracker.read() as session:
        current = select(Instance.sop_uid).where(Instance.study_uid == plan.study_uid, Instance.replaced_at.is_(None))
        assert sorted(session.scalars(current)) == sorted(acknowledged)
        in_series = session.scalar(select(func.sum(Series.instances)).where(Series.study_uid == plan.study_uid))
        assert session.get_one(Study, plan.study_uid).instances == in_series == len(acknowledged)


def one_result_per_target(node: Node, plan: Plan) -> None:
    with node.tracker.read() as session:
        of_study = select(Job).where(Job.study_uid == plan.study_uid, Job.kind == Kind.INFER, Job.state == State.DONE)
        made = session.scalars(of_study.order_by(Job.id)).all()
        replaced = {job.payload.get("replaces") for job in made}
        current = [job for job in made if not queue.outgrown(session, job) and job.key not in replaced]
        verdict = views.verdict(node.database, plan.study_uid)
        wanted = {request.target.sop_uids for request in verdict.requests}
        assert sorted(tuple(job.payload["target"]["sop_uids"]) for job in current) == sorted(wanted)
        targets = [job.target_series_uid for job in current]
        assert len(targets) == len(set(targets)), "two results of one target"
        for job in made:
            if job not in current and job.target_series_uid in targets:
                assert job.key in replaced, "a delivered result is replaced without a word"
    whole = {frozenset(str(ds.SOPInstanceUID) for ds in part) for part in targets_of(plan)}
    assert {frozenset(sop_uids) for sop_uids in wanted} <= whole, "a part of a series is a result"
    if not plan.facts & {"half corrected"}:
        assert len(wanted) == len(whole)


def targets_of(plan: Plan) -> list[list[Dataset]]:
    """The images of each T2, of twins the later."""
    latest: dict[tuple[int, int], Dataset] = {}
    for packet, _ in plan.packets:
        for ds in packet:
            known = latest.get((int(ds.SeriesNumber), int(ds.InstanceNumber)))
            is_correction = any(ds.SOPInstanceUID == other.SOPInstanceUID for other in latest.values())
            if "t2" in ds.SeriesDescription and (known is None or not is_correction):
                latest[int(ds.SeriesNumber), int(ds.InstanceNumber)] = ds
    numbers = sorted({number for number, _ in latest})
    return [[ds for (number, _), ds in latest.items() if number == wanted] for wanted in numbers]


def refusals_say_what_differs(node: Node, plan: Plan) -> None:
    verdict = views.verdict(node.database, plan.study_uid)
    refusals = [p for one in (*verdict.stacks, *verdict.pairs) for p in failures(one.predicates)]
    assert all(p.code in CODES and len(p.sentence) > 20 for p in refusals)
    if "half corrected" in plan.facts and "twin" not in plan.facts:
        told = [p.sentence for p in refusals if p.code in {"E_SERIES_PATIENTS", "E_OTHER_PATIENT"}]
        assert told and all("patient ID" in sentence for sentence in told)
