"""A tracker and an archive as they are after a day's work, made row by row."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import insert

from node.archive.facade import Archive
from node.archive.layers import Layer, LayerInfo, LayerName, encode_layers
from node.payloads import DeliverRequest, PairRequest, StackRequest
from node.result import Acquired, AcquisitionFact, Quality, Registration, Result
from node.tracker.database import Database
from node.tracker.states import Kind, State
from node.tracker.studies import StudyState
from node.tracker.tables import Delivery, Event, Instance, Job, Series, Study
from node.verdicts import (
    ModelName,
    PairVerdict,
    Predicate,
    PredicateOutcome,
    ScoreTerm,
    StackVerdict,
    StudyVerdict,
    TargetVerdict,
)

ROOT = "1.2.826.0.1.3680043.8.498"
SCRIPT = "<script>window.attacked=1</script><img src=x onerror='window.attacked=1'>"
SLICES = 5


class Content:
    """Fills a tracker with studies, as fast as the database takes rows. `archive` gets results for those that ask for it."""

    def __init__(self, database: Database, archive: Archive, now: datetime | None = None) -> None:
        self.database, self.archive = database, archive
        self.now = now or datetime.now(UTC)
        self._rows: dict[type, list[dict[str, Any]]] = {t: [] for t in (Study, Series, Instance, Job, Event, Delivery)}
        self._job_id = 0
        self._studies = 0

    def study(
        self,
        state: StudyState = StudyState.DELIVERED,
        *,
        patient: str = "Doe^Jane",
        patient_id: str = "P1",
        description: str = "Brain",
        age: timedelta = timedelta(minutes=5),
        delivery: State = State.DONE,
        result: bool = False,
        destination: str = "pacs",
        instances: int = 3,
        error: str | None = None,
    ) -> "Filled":
        """A study with its series and jobs, `age` old. With `result` there are layers and a report to look at."""
        self._studies += 1
        uid = f"{ROOT}.{self._studies}"
        at = self.now - age
        target, reference = f"{uid}.1", f"{uid}.2"
        self._rows[Study].append(
            {
                "study_uid": uid, "first_received_at": at, "last_received_at": at + timedelta(seconds=40), "state": state,
                "series": 2, "instances": 2 * instances, "size": 2 * instances * 150_000, "labelled": True,
                "patient_name": patient, "patient_id": patient_id, "accession_number": f"A{self._studies}",
                "study_date": (at.date()).strftime("%Y%m%d"), "modality": "MR", "description": description,
            }
        )  # fmt: skip
        for number, series in enumerate((target, reference), 1):
            self._rows[Series].append(
                {
                    "study_uid": uid, "series_uid": series, "instances": instances, "last_received_at": at, "modality": "MR",
                    "number": number, "description": f"{'t2' if number == 1 else 't1'} {description}",
                }
            )  # fmt: skip
        verdict = _verdict(uid, target, reference, state)
        match = self._job(
            Kind.MATCH, f"match:{uid}", uid, at, State.WAITING_PAIR if state is StudyState.WAITING else State.DONE, {},
            result=verdict.to_json(), error=verdict.sentence if state is StudyState.WAITING else None,
        )  # fmt: skip
        if state is StudyState.WAITING:
            return Filled(uid, match, None, None, None)
        request = PairRequest(
            study_uid=uid,
            target=StackRequest(
                series_uid=target, contrast="T2", sop_uids=tuple(f"{target}.{n}" for n in range(SLICES))
            ),
            reference=StackRequest(
                series_uid=reference, contrast="T1", sop_uids=tuple(f"{reference}.{n}" for n in range(SLICES))
            ),
        )
        payload = request.model_dump(mode="json")
        name = f"infer:{self._studies:032x}"
        infer = self._job(
            Kind.INFER, name, uid, at, State.DONE, payload, match, target, reference,
            result={"slices": SLICES, "seconds": 3.2, "device": "cpu", "usable": True, "memory_bytes": 2**30},
        )  # fmt: skip
        made = {"result": name, "request": payload}
        derive = self._job(Kind.DERIVE, f"derive:{name}", uid, at, State.DONE, made, infer, target, reference)
        sending = DeliverRequest(destination=destination, result=name, request=request).model_dump(mode="json")
        deliver = self._job(
            Kind.DELIVER, f"{name}:{destination}", uid, at, delivery, sending, derive, target, reference, destination,
            error=error,
        )  # fmt: skip
        for n in range(SLICES):
            self._rows[Delivery].append(
                {
                    "job_id": deliver, "sop_uid": f"{uid}.9.{n}", "key": f"derived/{name}/{n:05d}-{uid}.9.{n}.dcm",
                    "accepted": delivery is State.DONE, "committed": False, "updated_at": at,
                    "status": "0x0000: success" if delivery is State.DONE else None,
                }
            )  # fmt: skip
        if result:
            self.archive.put_result(name, result_of(request))
            self.archive.put_layers(name, layers())
        return Filled(uid, match, infer, deliver, name)

    def flush(self) -> None:
        """Write what was added so far."""
        with self.database.write() as session:
            for table, rows in self._rows.items():
                if rows:
                    session.execute(insert(table), rows)
                    rows.clear()

    def _job(
        self,
        kind: Kind,
        key: str,
        study_uid: str,
        at: datetime,
        state: State,
        payload: dict[str, Any],
        parent: int | None = None,
        target: str | None = None,
        reference: str | None = None,
        destination: str | None = None,
        result: dict[str, Any] | None = None,
        error: str | None = None,
    ) -> int:
        self._job_id += 1
        ended = at + timedelta(seconds=60)
        self._rows[Job].append(
            {
                "id": self._job_id, "kind": kind, "key": key, "state": state, "study_uid": study_uid,
                "target_series_uid": target, "reference_series_uid": reference, "parent_id": parent, "payload": payload,
                "destination": destination, "result": result, "revision": 6, "attempts": 1, "max_attempts": 3,
                "error": error, "created_at": at, "updated_at": ended,
                "next_attempt_at": self.now + timedelta(days=300) if state is State.RETRY_WAIT else None,
            }
        )  # fmt: skip
        for seconds, before, after, why in (
            (0, None, State.READY, "requested"),
            (2, State.READY, State.RUNNING, "attempt 1 of 3"),
            (60, State.RUNNING, state, error or "done"),
        ):
            self._rows[Event].append(
                {
                    "job_id": self._job_id, "at": at + timedelta(seconds=seconds), "actor": f"host/{kind}/1",
                    "from_state": before, "to_state": after, "why": why,
                }
            )  # fmt: skip
        return self._job_id


class Filled:
    """The ids of what was made of a study."""

    def __init__(self, study_uid: str, match: int, infer: int | None, deliver: int | None, name: str | None) -> None:
        self.study_uid, self.match, self.infer, self.deliver, self.name = study_uid, match, infer, deliver, name


def pixels(seed: int, slices: int = SLICES, rows: int = 40, columns: int = 56) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Stored values over the whole range, 0 and 65535 among them."""
    values = np.random.default_rng(seed).integers(0, 65536, (slices, rows, columns), dtype=np.uint16)
    values[:, 0, 0], values[:, 0, 1] = 0, 65535
    return values


def layers(trust: bool = True) -> bytes:
    """A layers file of noise, with a trust map or, as older ones, without."""
    names: tuple[LayerName, ...] = ("zero_filled", "super_resolved", "reference", "expected_error")
    slopes = {"reference": 0.5, "expected_error": 0.125}
    return encode_layers(
        [
            Layer(LayerInfo(name=name, slope=slopes.get(name, 1), center=30000, width=60000), pixels(seed))
            for seed, name in enumerate(names if trust else names[:3])
        ],
        np.array([[-28.0, -20.0, 5.0 * n] for n in range(SLICES)]),
        ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
        (1.0, 1.0),
        4,
    )


UNKNOWN = AcquisitionFact("filter over k-space", "unknown", "unknown", None)


def result_of(request: PairRequest) -> Result:
    """A result that goes with it."""
    return Result(
        pixels=pixels(1).astype(np.float32), positions=np.array([[-28.0, -20.0, 5.0 * n] for n in range(SLICES)]),
        orientation=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), spacing=(1.0, 1.0), source_uids=list(request.target.sop_uids),
        reference_uids=[[uid] for uid in request.reference.sop_uids], model_name="test", model_version="1",
        weights_sha256="0" * 64, scale=4, parameters={}, warnings=[],
        quality=Quality(
            consistency=[0.02, 0.03, 0.16, 0.02, 0.01], intensity_drift=[0.01, -0.02, 0.0, 0.01, 0.0],
            registration=Registration(shift_mm=(0.3, -0.1), rotation_deg=0.2, trusted=True, corrected=True, displacement_mm=0.5, spread_mm=0.1),
            seed_spread=None, usable=False, reasons=["K-space inconsistency of slice 3 is 0.16, above 0.15."],
        ),
        acquired=Acquired([AcquisitionFact("acquired rows", "8 of 10", "both", 0.98), UNKNOWN], ["k-space cropped to 8 x 14"]),
    )  # fmt: skip


def _verdict(study_uid: str, target: str, reference: str, state: StudyState) -> StudyVerdict:
    good = Predicate(
        name="magnitude",
        outcome=PredicateOutcome.PASS,
        value="M",
        threshold="M",
        code=None,
        sentence="The images are magnitudes.",
    )
    far = Predicate(
        name="coverage", outcome=PredicateOutcome.FAIL, value=0.41, threshold=0.95, code="E_FIELD_OF_VIEW",
        sentence="The reference covers 41 % of the field of view of the target.",
    )  # fmt: skip
    waits = state is StudyState.WAITING
    stacks = tuple(
        StackVerdict(
            label=f"series {n}", series_uid=uid, series_number=n, slices=SLICES, rows=10, columns=14, spacing_mm=(4.0, 4.0),
            slice_spacing_mm=5.0, contrast=contrast, role=role, predicates=(good,),
            acquisition=(UNKNOWN,) if role == "target" else (),
        )
        for n, uid, contrast, role in ((1, target, "T2", "target"), (2, reference, "T1", "reference"))
    )  # fmt: skip
    sentence = (
        "No reference fits series 1 (T2)." if waits else "To be super-resolved: series 1 (T2) guided by series 2 (T1)."
    )
    return StudyVerdict(
        study_uid=study_uid,
        model=ModelName(name="test", version="1"),
        outcome="waiting" if waits else "paired",
        missing="reference" if waits else None,
        code="E_NO_REFERENCE" if waits else None,
        sentence=sentence,
        stacks=stacks,
        pairs=(
            PairVerdict(target="series 1", reference="series 2", passes=not waits, predicates=(good, far) if waits else (good,),
                        score=() if waits else (ScoreTerm(name="contrast agent", value="none", points=25, most=25),)),
        ),
        targets=(
            TargetVerdict(
                target="series 1", reference=None if waits else "series 2",
                reasons=("series 2: The reference covers 41 % of the field of view of the target.",) if waits else (),
            ),
        ),
        requests=(),
    )  # fmt: skip
