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
from node.payloads import PairRequest, StackRequest
from node.tracker import queue, steps, views
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, Matched
from node.tracker.states import Kind, State
from node.tracker.worker import Handler, attempt
from tests.unit.node.kept import keep

RESULT = "infer:1"


class SuperResolved:
    """`derive` and `deliver` carry out the job of that kind that is due."""

    def __init__(self, folder: Path, study: Any) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.database = Database(f"sqlite:///{folder / 'tracker.sqlite3'}")
        self.database.upgrade()
        self.tracker = Tracker(self.database, clock=lambda: self.now)
        self.archive = Archive.in_folder(folder / "data")
        for ds in (*study.target, *study.reference):
            keep(self.tracker, self.archive, ds)
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

    def derived(self) -> dict[str, bytes]:
        """What was derived, by SOP instance UID, in the order to be sent."""
        made = self.archive.derived(RESULT)
        assert made is not None
        return {m.sop_uid: self.archive.derived_instance(m.key, m.sha256).content() for m in made}

    def derived_folder(self) -> Path:
        return Path(self.archive.location(f"derived/{RESULT}"))

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
