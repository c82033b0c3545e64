"""When to write: about what is new at once, but never more often than every few minutes, and about what lasts once per day."""

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import structlog

from node.archive.local import write_durably
from node.config.settings import Settings
from node.notify.troubles import Trouble, summary, troubles
from node.tracker.database import Database

log = structlog.get_logger()

LOOK_EVERY_S = 60
STATE_FILE = "notified.json"
"""In the node's own folder: what was written about, and when, so that a restart repeats nothing."""


class Sends(Protocol):
    """Channels, or what stands for them."""

    def send(self, title: str, lines: list[str]) -> bool: ...


class Notifier:
    """Looks for troubles, and writes about them."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        database: Database,
        channels: Sends,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`settings` gives those in force. They have a section [notify]."""
        self._settings, self._database, self._channels, self._clock = settings, database, channels, clock
        self._path = settings().node.data_dir / STATE_FILE
        self._notified = _read(self._path)
        self._last_sent: datetime | None = max(self._notified.values(), default=None)

    def look(self) -> None:
        """Write one message about everything that is due, if there is something."""
        settings = self._settings()
        notify = settings.notify
        assert notify is not None
        now = self._clock()
        found = troubles(settings, notify, self._database)
        lasting = {trouble.key for trouble in found}
        mended = [key for key in self._notified if key not in lasting]
        repeat, pause = timedelta(hours=notify.repeat_hours), timedelta(minutes=notify.pause_minutes)
        due = [t for t in found if t.key not in self._notified or now - self._notified[t.key] >= repeat]
        may_send = self._last_sent is None or now - self._last_sent >= pause
        if due and may_send and self._send(settings, due, mended):
            self._last_sent = now
            self._notified |= dict.fromkeys((trouble.key for trouble in due), now)
        for key in mended:
            del self._notified[key]
        if mended or self._last_sent == now:
            _write(self._path, self._notified)

    def _send(self, settings: Settings, due: list[Trouble], mended: list[str]) -> bool:
        where = f"{settings.scp.ae_title} on {socket.gethostname()}"
        title = f"DiffMSR node {where}: {len(due)} {'thing needs' if len(due) == 1 else 'things need'} you"
        lines = summary(due)
        if mended:
            lines += ["", f"Mended since: {', '.join(mended[:20])}"]
        sent = self._channels.send(title, lines)
        if sent:
            log.info("notify.sent", troubles=len(due))
        return sent


def _read(path: Path) -> dict[str, datetime]:
    """What was written about before. A file that cannot be read counts as empty: then people hear of it again."""
    try:
        return {key: datetime.fromisoformat(at) for key, at in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write(path: Path, notified: dict[str, datetime]) -> None:
    content = json.dumps({key: at.isoformat() for key, at in notified.items()}, indent=1)
    write_durably(path, content.encode())
