"""Whatever happens to the tracker, in whatever order: no job is held twice, lost, or moved against the table."""

import tempfile
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from node.errors import LeaseLostError, TransitionError
from node.tracker import administration, arrivals, commitments, queue, steps, views
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import Committing, Done, Failed, Matched, Missing, NewJob, Refused, Retry
from node.tracker.queue import Claim
from node.tracker.states import LEASED, Kind, State, allowed

from .conftest import Clock, arrival
from .jobs import infer_job, pair

SERIES = ("1.2.1", "1.2.2")


class QueueMachine(RuleBasedStateMachine):
    """One study of two series; workers come, die, and come back to find that they were given up."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(f"sqlite:///{Path(self.folder.name) / 'tracker.sqlite3'}")
        self.database.upgrade()
        self.clock = Clock()
        self.tracker = Tracker(self.database, timedelta(seconds=60), self.clock)
        self.claims: list[Claim] = []
        self.received = dict.fromkeys(SERIES, 0)
        self.delivered: list[tuple[str, int]] = []
        self.transactions: list[str] = []

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.dispose()
            self.folder.cleanup()

    @rule(series=st.sampled_from(SERIES))
    def receive(self, series: str) -> None:
        self.received[series] += 1
        assert arrivals.record(self.tracker, arrival(self.received[series], series), quiet_s=10)

    @rule(seconds=st.sampled_from([1, 10, 61]))
    def wait(self, seconds: int) -> None:
        self.clock.forward(seconds)

    @rule(kind=st.sampled_from(list(Kind)))
    def claim(self, kind: Kind) -> None:
        claim = queue.claim(self.tracker, kind, f"worker-{len(self.claims)}")
        if claim is not None:
            self.claims.append(claim)
            if kind is not Kind.MATCH:
                assert claim.revision == sum(self.received.values()), "work on series that have grown is held back"

    @rule(which=st.integers(0, 5), how=st.sampled_from(["done", "refused", "retry", "failed", "committing", "missing"]))
    def settle(self, which: int, how: str) -> None:
        if not self.claims:
            return
        claim = self.claims[-1 - which % len(self.claims)]
        outcome: Any = {"refused": Refused("E_X", "no"), "retry": Retry("later", 5), "failed": Failed("broken")}.get(
            how
        )
        if how == "missing" and claim.kind in (Kind.DERIVE, Kind.DELIVER):
            outcome = Missing("a file is gone", self._maker(claim))
        elif how in ("done", "missing") or (how == "committing" and claim.kind is not Kind.DELIVER):
            outcome = self._success(claim)
        holder = self._row(claim).worker if self._row(claim).state in LEASED else None
        try:
            if how == "committing" and outcome is None:
                self.transactions.append(f"1.9.{len(self.transactions)}")
                commitments.opened(self.tracker, claim, self.transactions[-1])
                outcome = Committing("asked", self.transactions[-1], 30)
            queue.settle(self.tracker, claim, outcome)
            assert holder == claim.worker, "only the holder may settle"
            if isinstance(outcome, Done) and claim.kind is Kind.DELIVER:
                self.delivered.append((claim.key, claim.revision))
        except LeaseLostError:
            assert holder != claim.worker

    def _success(self, claim: Claim) -> Done | Matched:
        if claim.kind is Kind.MATCH:
            total = sum(self.received.values())
            infer = infer_job(str(total), total)
            return Matched("paired", None, (infer,) if all(self.received.values()) else ())
        if claim.kind is Kind.INFER:
            derive = replace(steps.derive_job(claim.key, pair()), max_attempts=3)
            return Done("ok", None, (derive,))
        if claim.kind is Kind.DERIVE:
            held = "look at it first" if claim.revision % 2 else None
            deliver = steps.deliver_job(claim.key.removeprefix("derive:"), pair(), "pacs", 3, held)
            return Done("ok", None, (deliver,))
        return Done("sent")

    def _maker(self, claim: Claim) -> NewJob:
        """The job that made what a derive or deliver job needs."""
        if claim.kind is Kind.DERIVE:
            return steps.infer_job(claim.key.removeprefix("derive:"), pair(), 3)
        return steps.derive_job(claim.key.removesuffix(":pacs"), pair())

    @rule(which=st.integers(0, 3))
    def report(self, which: int) -> None:
        if self.transactions:
            transaction = self.transactions[-1 - which % len(self.transactions)]
            assert commitments.reported(self.tracker, transaction, set(), {})

    @rule(lucky=st.booleans())
    def rescue(self, lucky: bool) -> None:
        queue.rescue(self.tracker, dead=lambda worker: lucky)

    @rule(job=st.integers(1, 8), what=st.sampled_from(["retry", "cancel", "hold", "release"]))
    def administer(self, job: int, what: str) -> None:
        ids = [row.id for row in views.jobs(self.database)]
        if job in ids:
            with suppress(TransitionError):
                getattr(administration, what)(self.tracker, job, "admin")

    def _row(self, claim: Claim) -> views.JobDetail:
        return views.job(self.database, claim.job_id)

    @invariant()
    def every_move_was_allowed_and_written_down(self) -> None:
        if not hasattr(self, "database"):
            return
        for row in views.jobs(self.database):
            events = views.job(self.database, row.id).events
            assert events[-1].to_state == row.state
            for before, after in pairwise(events):
                assert after.from_state == before.to_state
                assert allowed(State(after.from_state), State(after.to_state))

    @invariant()
    def what_waits_for_another_job_has_one_to_wait_for(self) -> None:
        if not hasattr(self, "database"):
            return
        for row in views.jobs(self.database, state=State.RETRY_WAIT):
            if "waits for" in (row.error or ""):
                assert views.job(self.database, row.id).parent_id is not None

    @invariant()
    def nothing_received_is_lost(self) -> None:
        if hasattr(self, "database"):
            assert views.totals(self.database).instances == sum(self.received.values())

    @invariant()
    def a_delivery_happens_once(self) -> None:
        if hasattr(self, "delivered"):
            assert len({key for key, _ in self.delivered}) == len(self.delivered)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
