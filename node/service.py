"""The composition root: which roles run in this process, how they start, how they stop. What only one role needs is loaded
when it starts: a scanner waits for the port, and for nothing else."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sdnotify
import structlog

from node import __version__, checks
from node.archive.facade import Archive
from node.config.changes import compare
from node.config.loading import load_settings
from node.config.settings import Settings
from node.errors import NodeError
from node.identity import node_id, worker_name
from node.locks import only_one
from node.receive.adopt import Adoption
from node.receive.commitment_scp import Commitments
from node.receive.group_commit import PATIENCE_S, GroupCommit, recover
from node.receive.policy import Caller, configured_callers
from node.receive.server import Receiver
from node.receive.store import Store
from node.roles import Role
from node.signals import Signals
from node.startup import clean_up, record_configuration
from node.telemetry.log import log_crashes, logged
from node.telemetry.tracing import trace_to_collector
from node.tracker import identity
from node.tracker.audit import Action, try_audit
from node.tracker.clock import SteadyClock
from node.tracker.crew import Crew
from node.tracker.database import Database
from node.tracker.due import Destinations
from node.tracker.duties import try_release
from node.tracker.handle import Tracker
from node.tracker.indexing import remove_labels
from node.tracker.states import Kind
from node.tracker.status import unserved_kinds
from node.tracker.worker import Handler, run_worker

if TYPE_CHECKING:
    from apscheduler.schedulers.background import BackgroundScheduler

log = structlog.get_logger()

DRAIN_S = 25
"""How long a stop waits for all work in progress together. systemd waits 90 s."""

STOP_ORDER = (Role.WEB, Role.RECEIVE, Role.HOUSEKEEP, Role.MATCH, Role.INFER, Role.DELIVER, None)
"""What accepts work stops before what does it."""

WATCHDOG_EVERY_S = 10
"""How often systemd hears that all is well; the unit's WatchdogSec is longer."""


class Service:
    """The roles of one process, sharing one tracker and one archive."""

    def __init__(self, settings: Settings, config_path: Path, roles: list[Role]) -> None:
        self._settings = settings
        self._config_path = config_path
        self._roles = roles
        self._stop_wanted = self._reload_wanted = False
        self._stopping = threading.Event()
        self._deadline = self._report_at = 0.0
        self._stops: list[Callable[[], None]] = []
        """What ends the role that is being started, in opposite order; and of each role, None what they share."""
        self._stops_of: dict[Role | None, list[Callable[[], None]]] = {None: self._stops}
        self._crew = Crew()
        self._posts: list[Callable[[Crew], None]] = []
        """What hires the workers of each role, by the settings in force."""
        self._informed: list[Callable[[], None]] = []
        """What tells the other parts that the settings have changed."""
        self._schedulers: list[BackgroundScheduler] = []

    def run(self) -> None:
        """Start everything, wait for SIGTERM or SIGINT, drain, return. NodeError when something cannot start."""
        with closing(Signals(self.stop, self.reload)) as signals:
            self._run(signals)

    def _run(self, signals: Signals) -> None:
        log_crashes()
        trace_to_collector(self._settings.tracing, self._settings.scp.ae_title)
        checks.require(checks.run(self._settings, checks.TO_START))
        with only_one(self._settings.node.data_dir, self._roles):
            archive = Archive.of(self._settings)
            database, clock = Database(self._settings.node.url), SteadyClock()
            tracker = Tracker(database, clock=clock, node=node_id(self._settings.node.data_dir))
            try:
                tracker.database.upgrade()
                shared = self._settings.storage.archive is not None
                identity.confirm(database, self._settings.node.data_dir, archive if shared else None)
                if not self._settings.node.index_patient:
                    remove_labels(tracker)
                self._stops.append(archive.close)
                record_configuration(tracker, Action.CONFIGURED, self._settings, self._config_path, self._roles)
                clean_up(tracker, archive, self._settings, self._roles)
                self._start(tracker, archive)
                sdnotify.SystemdNotifier().notify("READY=1")
                from node.housekeeping.schedule import follow_clock

                log.info("service.ready", version=__version__, roles=self._roles)
                while not self._stop_wanted:
                    self._report_health()
                    follow_clock(database, clock, self._schedulers)
                    if self._reload_wanted:
                        self._reload(tracker)
                    signals.wait(1.0)
                log.info("service.stopping")
                sdnotify.SystemdNotifier().notify("STOPPING=1")
            finally:
                self._stop(tracker)
        log.info("service.stopped")

    def _report_health(self) -> None:
        """Tell systemd's watchdog that all workers live. When one has died it hears nothing, and starts the service again."""
        now = time.monotonic()
        if now >= self._report_at and self._crew.is_alive():
            sdnotify.SystemdNotifier().notify("WATCHDOG=1")
            self._report_at = now + WATCHDOG_EVERY_S

    def stop(self) -> None:
        """Have `run` drain and return. The handler of a signal calls this in the middle of anything, so it must not
        take a lock, as setting an event would."""
        self._stop_wanted = True

    def reload(self) -> None:
        """Have `run` read the configuration again. It takes no lock either."""
        self._reload_wanted = True

    def _reload(self, tracker: Tracker) -> None:
        """Take over sources, destinations and rules of the file as it is now. What a worker has begun with the old ones it
        finishes, or gives back to the new ones."""
        self._reload_wanted = False
        systemd = sdnotify.SystemdNotifier()
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            read = load_settings(self._config_path, lambda text: log.warning("reload.warned", reason=text))
            found = compare(self._settings, read)
            checks.require(checks.run(found.settings, (checks.destinations,)))
        except NodeError as error:
            log.error("reload.refused", reason=str(error), check="the previous settings stay in force")
        else:
            if found.needs_restart:
                log.warning("reload.needs_restart", sections=list(found.needs_restart))
            if found.changes:
                self._settings = found.settings
                record_configuration(tracker, Action.RELOADED, self._settings, self._config_path, self._roles)
                for inform in self._informed:
                    inform()
                self._hire(tracker)
            for change in found.changes:
                log.info("reload.changed", change=change)
            log.info("reload.done", changes=len(found.changes))
        systemd.notify("READY=1")

    def _start(self, tracker: Tracker, archive: Archive) -> None:
        """The receiver first, because a scanner may wait; the page last, which is the largest."""
        start = {
            Role.RECEIVE: self._start_receive,
            Role.DELIVER: self._start_deliver,
            Role.INFER: self._start_infer,
            Role.MATCH: self._start_match,
            Role.HOUSEKEEP: self._start_housekeep,
            Role.WEB: self._start_web,
        }
        self._stops.append(lambda: self._crew.join(self._patience_s()))
        for role in (role for role in start if role in self._roles):
            self._stops = self._stops_of[role] = []
            start[role](tracker, archive)
        self._hire(tracker)

    def _hire(self, tracker: Tracker) -> None:
        """Have workers that go by the settings in force. The previous ones end, each as soon as its work allows."""
        self._crew.dismiss()
        self._crew = Crew()
        for post in self._posts:
            post(self._crew)
        tracker.wakeups.wake(*Kind)

    def _start_web(self, tracker: Tracker, archive: Archive) -> None:
        """The page gets what only the service may import: the rules, the model's name, the preconditions."""
        if not self._settings.web.enabled:
            return
        from node.folder import explain_all
        from node.web.server import WebServer
        from node.web.site import Site
        from node.weights import model_facts

        facts = model_facts(self._settings)
        site = Site(
            self._settings, tracker, archive, model=f"{facts.name} {facts.version}",
            explain=lambda readables: explain_all(readables, self._settings), failing=checks.Standing(self._settings).failing,
        )  # fmt: skip
        self._informed.append(lambda: site.reload(self._settings))
        server = WebServer(site)
        server.start()
        self._stops.append(lambda: server.stop(self._patience_s()))

    def _start_deliver(self, tracker: Tracker, archive: Archive) -> None:
        from node.deliver.breaker import Breaker
        from node.deliver.echoes import ECHO_EVERY_S, echo_destinations
        from node.deliver.worker import make_deliver_handler
        from node.derived.worker import make_derive_handler

        def post(crew: Crew) -> None:
            settings = self._settings
            self._work(crew, tracker, Kind.DERIVE, Role.DELIVER, make_derive_handler(tracker, archive, settings))
            breakers = {d.name: Breaker(d) for d in settings.destinations}
            deliver = make_deliver_handler(tracker, archive, settings, breakers)
            for destination in settings.destinations:  # workers of its own, so that one that hangs delays no other
                only, gate = Destinations(frozenset({destination.name})), breakers[destination.name].wait_s
                for _ in range(destination.associations):
                    self._work(crew, tracker, Kind.DELIVER, Role.DELIVER, deliver, only, gate)
            others = Destinations(frozenset(breakers), others=True)
            self._work(crew, tracker, Kind.DELIVER, Role.DELIVER, deliver, others)

        self._posts.append(post)
        self._repeat("echoes", lambda: echo_destinations(tracker, self._settings), ECHO_EVERY_S)

    def _start_infer(self, tracker: Tracker, archive: Archive) -> None:
        from node.infer.replays import make_replay_handler
        from node.infer.supervisor import Supervisor, devices

        command = [sys.executable, "-m", "node.infer.worker", str(self._config_path)]
        model, data_dir = self._settings.model, self._settings.node.data_dir
        supervisor = Supervisor(tracker, data_dir, command, devices(model.devices), self._stopping, model.stall_s)
        supervisor.start()
        self._stops.append(lambda: supervisor.stop(self._patience_s()))
        replay = make_replay_handler(self._config_path)
        self._posts.append(lambda crew: self._work(crew, tracker, Kind.REPLAY, Role.INFER, replay))

    def _start_match(self, tracker: Tracker, archive: Archive) -> None:
        from node.match.worker import make_match_handler
        from node.weights import model_facts, pixel_settings

        def post(crew: Crew) -> None:
            settings = self._settings
            match = make_match_handler(
                tracker, archive, settings.completion, settings.match, model_facts(settings), pixel_settings(settings),
                settings.model.max_attempts, settings.fetch.max_attempts if settings.fetch else None,
            )  # fmt: skip
            self._work(crew, tracker, Kind.MATCH, Role.MATCH, match)

        self._posts.append(post)

    def _start_housekeep(self, tracker: Tracker, archive: Archive) -> None:
        from node.housekeeping.schedule import schedule

        settings = self._settings
        scheduler = schedule(tracker, archive, settings.node.index_patient, unserved_kinds(settings), settings.storage)
        scheduler.start()
        self._schedulers.append(scheduler)
        self._stops += [lambda: try_release(tracker), scheduler.shutdown]
        if settings.notify is not None:
            from node.notify.channels import Channels
            from node.notify.notifier import LOOK_EVERY_S, Notifier

            notifier = Notifier(lambda: self._settings, tracker.database, Channels(settings.notify))
            self._repeat("notify", notifier.look, LOOK_EVERY_S)
        if settings.audit is not None:
            from node.audit.forwarder import Forwarder

            forwarder = Forwarder(tracker, settings.audit, settings.scp.ae_title)
            self._repeat("audit", forwarder.look, forwarder.EVERY_S)

    def _start_receive(self, tracker: Tracker, archive: Archive) -> None:
        settings = self._settings
        patient, tracker = tracker, replace(tracker, patience_s=PATIENCE_S)
        group_commit = GroupCommit.open(archive, tracker, settings.completion.series_quiet_s)
        store = Store(
            archive.within(PATIENCE_S), tracker, settings.completion.series_quiet_s, settings.node.index_patient,
            settings.match.stack.max_matrix, group_commit, settings.scp.keep_other == "keep",
        )  # fmt: skip
        adoption = Adoption(settings.node.data_dir, shared=settings.storage.archive is not None)
        self._stops += [adoption.end, store.close]
        if recovered := recover(archive, tracker, store.readmit):
            log.warning("service.recovered", instances_in_the_log=recovered)
        if group_commit is not None:
            self._stops.append(group_commit.close)
        adoption.start(archive, tracker, store.readmit)
        self._stops.append(lambda: adoption.stop(self._patience_s()))
        commitments = Commitments(
            tracker, archive, settings.sources, settings.scp.ae_title, settings.scp.max_commitment_requests, store.flush
        )
        receiver = Receiver(settings.scp, self._callers(), store, commitments)
        receiver.start()
        self._stops.append(receiver.stop)
        self._informed += [lambda: receiver.admit(self._callers()), lambda: commitments.know(self._settings.sources)]

        def post(crew: Crew) -> None:
            self._work(crew, patient, Kind.COMMIT, Role.RECEIVE, commitments.report)
            if self._settings.fetch:
                from node.receive.fetch import make_fetch_handler

                fetch = make_fetch_handler(store, self._settings.fetch, self._settings)
                self._work(crew, patient, Kind.FETCH, Role.RECEIVE, fetch)

        self._posts.append(post)

    def _callers(self) -> list[Caller]:
        return configured_callers(self._settings.sources, self._settings.destinations, self._settings.fetch)

    def _repeat(self, name: str, task: Callable[[], object], every_s: float) -> None:
        """Have a task done now, and again and again."""
        from node.housekeeping.schedule import clock as clockwork

        repeats = clockwork({name: (task, every_s)}, at_once=True)
        repeats.start()
        self._schedulers.append(repeats)
        self._stops.append(lambda: repeats.shutdown(wait=False))

    def _work(
        self,
        crew: Crew,
        tracker: Tracker,
        kind: Kind,
        role: Role,
        handler: Handler,
        destinations: Destinations | None = None,
        gate: Callable[[], float] | None = None,
    ) -> None:
        """Add a worker to a crew."""
        worker = worker_name(self._settings.node.data_dir, role)
        loop = partial(run_worker, tracker, kind, worker, handler, destinations=destinations, gate=gate)
        crew.add(f"{role}-{kind}", loop)

    def _stop(self, tracker: Tracker) -> None:
        self._stopping.set()
        self._crew.dismiss()
        tracker.wakeups.wake(*Kind)
        self._deadline = time.monotonic() + DRAIN_S
        for stop in (stop for role in STOP_ORDER for stop in reversed(self._stops_of.get(role, []))):
            with logged("stop.failed"):  # the other parts have to end, too
                stop()
        try_audit(tracker, Action.STOPPED, "stop", details={"roles": [role.value for role in self._roles]})
        tracker.database.dispose()

    def _patience_s(self) -> float:
        """The rest of the time that a stop gives to all parts together."""
        return max(0.0, self._deadline - time.monotonic())
