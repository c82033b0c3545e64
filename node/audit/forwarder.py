"""Sends what the audit trail has and the collector does not, in order, again and again until it has arrived.

At least once: what was sent when the node or the collector died is sent again. Its failure disturbs nothing else.
"""

import os
import socket
import time
from collections.abc import Callable

import structlog

from node.audit import syslog
from node.audit.message import audit_message, is_failure
from node.certificates import client_context
from node.config.audit import AuditSettings
from node.errors import LeaseLostError
from node.tracker import duties, spool
from node.tracker.handle import Tracker

log = structlog.get_logger()

BATCH = 200
LONGEST_PAUSE_S = 60.0


class Forwarder:
    """One object per service. Of several services that share a tracker, one sends."""

    EVERY_S = 2.0
    """How often to look."""

    def __init__(
        self,
        tracker: Tracker,
        settings: AuditSettings,
        ae_title: str,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """ConfigError when the files of [audit.tls] cannot be used."""
        if settings.transport == "tls":
            client_context(settings.tls, syslog.TLS_ENTRY)
        self._tracker, self._settings, self._ae_title, self._seconds = tracker, settings, ae_title, seconds
        self._host = socket.gethostname()
        self._pause_s = 0.0
        self._not_before = 0.0

    def look(self) -> int:
        """Send what waits, unless the collector was away a moment ago; how many messages have arrived. NodeError when the
        tracker does not answer."""
        sent = 0
        if self._seconds() < self._not_before or not duties.take(self._tracker, duties.Name.AUDIT_MESSAGES):
            return sent
        while rows := spool.unsent(self._tracker, BATCH):
            try:
                syslog.send(self._settings, [self._message(row) for row in rows])
            except OSError as error:
                self._wait(error)
                return sent
            try:
                spool.arrived(self._tracker, rows[-1])
            except LeaseLostError as error:  # this host stood still, and another one goes on
                log.warning("audit.taken_over", reason=str(error))
                return sent
            sent += len(rows)
            if self._pause_s:
                log.info("audit.arrives_again", collector=self._settings.entry)
            self._pause_s = 0.0
            if len(rows) < BATCH:
                break
            duties.take(self._tracker, duties.Name.AUDIT_MESSAGES)
        return sent

    def _message(self, unsent: spool.Unsent) -> bytes:
        row = unsent.row
        body = audit_message(row, self._settings, self._ae_title, self._host, unsent.patient_id)
        return syslog.syslog_message(body, row.at, self._host, os.getpid(), is_failure(row))

    def _wait(self, error: OSError) -> None:
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2 or self.EVERY_S)
        self._not_before = self._seconds() + self._pause_s
        log.warning(
            "audit.not_sent",
            collector=self._settings.entry,
            error=type(error).__name__,
            reason=str(error),
            waiting=spool.backlog(self._tracker.database).rows,
            check="messages wait in the audit trail; see whether the collector runs, and the certificates of [audit.tls]",
        )
