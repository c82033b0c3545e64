"""A study received and super-resolved, on a tracker and an archive as the earlier stages leave them."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from node.archive.facade import Archive
from node.config.settings import Settings
from node.deliver.worker import make_deliver_handler
from node.derived.worker import make_derive_handler
from node.dicom.transfer_syntax import to_bytes
from node.payloads import PairRequest, StackRequest
from node.tracker import arrivals, queue, steps, views
from node.tracker.arrivals import Arrival
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, Matched
from node.tracker.states import Kind, State
from node.tracker.worker import Handler, attempt

RESULT = "infer:1"


class SuperResolved:
    """`derive` and `deliver` carry out the job of that kind that is due."""

    def __init__(self, folder: Path, study: Any) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.database = Database(f"sqlite:///{folder / 'tracker.sqlite3'}")
        self.database.upgrade()
        self.tracker = Tracker(self.database, clock=lambda: self.now)
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
        self.request = PairRequest(study_uid=study.target[0].StudyInstanceUID, target=target, reference=reference)
        self.revision = len(study.target) + len(study.reference)
        self.study = study
        self._match()
        self.infer()

    def infer(self) -> State:
        """What the infer stage leaves: the result, and its job done."""
        claim = queue.claim(self.tracker, Kind.INFER, "host/infer/1")
        assert claim is not None
        self.archive.put_result(RESULT, self.study.result)
        return queue.settle(self.tracker, claim, Done("made", None, (steps.derive_job(RESULT, self.request),)))

    def derive(self, settings: Settings | None = None) -> State:
        settings = settings or Settings()
        return self._do(Kind.DERIVE, make_derive_handler(self.tracker, self.archive, settings))

    def deliver(self, settings: Settings) -> State:
        return self._do(Kind.DELIVER, make_deliver_handler(self.tracker, self.archive, settings))

    def jobs(self, kind: Kind) -> list[tuple[State, str | None]]:
        """(state, what it says) of the jobs of a kind."""
        return [(row.state, row.summary) for row in views.jobs(self.database, kind=kind)]

    def last(self, kind: Kind) -> views.JobDetail:
        return views.job(self.database, views.jobs(self.database, kind=kind)[-1].id)

    def _match(self) -> None:
        self.now += timedelta(seconds=10)
        claim = queue.claim(self.tracker, Kind.MATCH, "host/match/1")
        assert claim is not None
        wanted = replace(steps.infer_job(RESULT, self.request, 3), revision=self.revision)
        queue.settle(self.tracker, claim, Matched("paired", None, (wanted,)))

    def _do(self, kind: Kind, handler: Handler) -> State:
        claim = queue.claim(self.tracker, kind, f"host/{kind}/1")
        assert claim is not None, f"no {kind} job is due"
        state = attempt(self.tracker, claim, handler, threading.Event(), delay_s=0)
        assert state is not None
        return state
