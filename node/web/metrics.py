"""Metrics for Prometheus. What happened is counted from the tracker's append-only tables, whichever process it happened in,
from the start of this one. The present state is read when somebody asks for the metrics.

No label holds patient data. A label of a peer is its name in the configuration, or "other": a stranger's AE title is
hostile text, and each new one would be a new series.
"""

import shutil
import threading
from collections import Counter as Counts
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from node import __version__
from node.certificates import certificate_entries, expiry
from node.tracker import overview, pauses, peers, spool
from node.tracker.audit import Action
from node.tracker.growth import Change, Growth
from node.tracker.states import FINISHED, LEASED, State
from node.tracker.status import blocked_jobs
from node.tracker.views import AuditRow, conflicts
from node.web.site import Site

SECONDS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 900, 3600)

OTHER = "other"


class Metrics:
    """The metrics of one site."""

    def __init__(self, site: Site) -> None:
        self._site, self._growth, self._guard = site, Growth(site.tracker.database), threading.Lock()
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"diffmsr_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"diffmsr_{name}", text, labels, registry=registry)

        self._associations = counter("associations", "Associations of peers that ended", "peer", "outcome")
        self._received = counter("instances_received", "Instances that peers sent and the node keeps", "peer")
        self._dropped = counter(
            "instances_dropped", "Instances that are not MR and that the node does not keep", "peer"
        )
        self._refused = counter("instances_refused", "Instances that the node did not take", "peer", "status")
        self._sent = counter("instances_sent", "Instances that destinations accepted", "destination")
        self._jobs = counter("jobs", "Attempts at jobs that ended, by the state they ended in", "kind", "state")
        self._refusals = counter("refusals", "Jobs that were refused", "kind", "code")
        self._seconds = Histogram(
            "diffmsr_job_seconds", "How long a worker had a job", ["kind"], buckets=SECONDS, registry=registry
        )
        self._queue = gauge("queue_jobs", "Jobs that are not finished", "kind", "state", "destination")
        self._oldest = gauge("queue_oldest_seconds", "Age of the oldest of them", "kind", "state", "destination")
        self._up = gauge("destination_up", "1 when the last C-ECHO was answered", "destination")
        self._success = gauge("destination_last_success_timestamp_seconds", "Last delivery", "destination")
        self._paused = gauge("paused", "1 while somebody has paused it", "what")
        self._ready = gauge("ready", "1 when every precondition holds")
        self._blocked = gauge("blocked_jobs", "Jobs that are due and that no worker will take", "kind")
        self._conflicts = gauge("conflicts", "Instances refused because they came again with other pixels")
        self._unsent = gauge("audit_messages_waiting", "Rows of the audit trail that the collector does not have yet")
        self._free = gauge("disk_free_bytes", "Free space of the archive")
        self._total = gauge("disk_size_bytes", "Size of that disk")
        self._kept = gauge("kept_bytes", "Size of the received instances that are kept")
        self._studies = gauge("kept_studies", "Studies that are kept")
        self._expiry = gauge("certificate_expiry_timestamp_seconds", "When a certificate expires", "entry")
        self._memory = gauge("device_memory_peak_bytes", "Most memory in use at once, by the last result", "device")
        gauge("info", "Version and model", "version", "model").labels(__version__, site.model).set(1)

    def text(self) -> bytes:
        """All of them, in the text format of Prometheus."""
        with self._guard:
            for change in self._growth.changes():
                self._count_change(change)
            for row in self._growth.audited():
                self._count_row(row)
            self._look()
            return generate_latest(self.registry)

    def _count_change(self, change: Change) -> None:
        if change.before not in LEASED:
            return
        self._seconds.labels(change.kind).observe(change.seconds)
        if change.after in FINISHED | {State.RETRY_WAIT, State.WAITING_PAIR, State.COMMITTING}:
            self._jobs.labels(change.kind, change.after).inc()
        if change.code is not None:
            self._refusals.labels(change.kind, change.code).inc()

    def _count_row(self, row: AuditRow) -> None:
        peer = next((s.name for s in self._site.settings.sources if s.ae_title == row.actor), OTHER)
        times = int(row.details.get("further") or 1)
        if row.action == Action.ASSOCIATION:
            self._associations.labels(peer, "rejected" if "rejected" in row.details else "accepted").inc(times)
            self._received.labels(peer).inc(int(row.details.get("stored") or 0))
            self._dropped.labels(peer).inc(int(row.details.get("dropped") or 0))
        elif row.action == Action.REFUSED:
            self._refused.labels(peer, row.details.get("status", "")).inc(times)
        elif row.action == Action.SENT:
            self._sent.labels(row.details.get("destination", "")).inc(int(row.details.get("instances") or 0))

    def _look(self) -> None:
        """What is so at the moment."""
        database, now = self._site.tracker.database, datetime.now(UTC)
        for metric in (self._blocked, self._queue, self._oldest, self._paused, self._expiry, self._up, self._success):
            metric.clear()
        for row in overview.queue(database):
            labels = (row.kind, row.state, row.destination or "")
            self._queue.labels(*labels).set(row.count)
            self._oldest.labels(*labels).set((now - row.oldest).total_seconds())
        echoes = peers.echoes(database)
        for destination in overview.destinations(database, [d.name for d in self._site.settings.destinations]):
            if destination.name in echoes:
                self._up.labels(destination.name).set(echoes[destination.name].answered)
            if destination.last_success is not None:
                self._success.labels(destination.name).set(destination.last_success.timestamp())
        for what in pauses.paused(database):
            self._paused.labels(what).set(1)
        self._ready.set(not self._site.failing())
        for kind, count in Counts(job.kind for job in blocked_jobs(database, self._site.settings)).items():
            self._blocked.labels(kind).set(count)
        self._conflicts.set(conflicts(database))
        if self._site.settings.audit is not None:
            self._unsent.set(spool.backlog(database).rows)
        self._memory.clear()
        device = overview.last_device(database)
        if device is not None and device.memory_bytes is not None:
            self._memory.labels(device.name).set(device.memory_bytes)
        studies, size = overview.kept(database)
        self._studies.set(studies)
        self._kept.set(size)
        if (folder := self._site.settings.archive_folder) is not None:
            usage = shutil.disk_usage(folder)
            self._free.set(usage.free)
            self._total.set(usage.total)
        for entry, until in self._expiries():
            self._expiry.labels(entry).set(until)

    def _expiries(self) -> Iterator[tuple[str, float]]:
        for entry, tls in certificate_entries(self._site.settings):
            with suppress(OSError, ValueError):  # the doctor says what is wrong with it
                yield entry, expiry(tls.cert_file).timestamp()
