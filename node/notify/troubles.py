"""What is wrong at the moment, in sentences for people who are far away. Nothing in them tells who a patient is: no UID, no
text of a header, no text of a peer."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from node.certificates import certificate_entries, expiry
from node.config.notify import NotifySettings, Topic
from node.config.settings import Settings
from node.tracker import overview, peers
from node.tracker.database import Database

_MOST_NAMED = 10
_MOST_FAILED = 1000


@dataclass(frozen=True)
class Trouble:
    """Something that needs a person."""

    topic: Topic
    key: str
    """Names it, the same as long as it lasts."""
    sentence: str


def troubles(settings: Settings, notify: NotifySettings, database: Database) -> list[Trouble]:
    """All of them, of the topics that are wanted."""
    now = datetime.now(UTC)
    found = [
        *_failed(database),
        *_unreachable(settings, database),
        *_disk(settings, notify),
        *_expiring(settings, notify, now),
    ]
    return [trouble for trouble in found if trouble.topic in notify.topics]


def _failed(database: Database) -> Iterator[Trouble]:
    for job in overview.failed(database, _MOST_FAILED):
        where = f" to {job.destination}" if job.destination else ""
        yield Trouble(
            "failed", f"job {job.id}", f"{job.kind} job {job.id}{where} failed: diffmsr-node queue show {job.id}"
        )


def _unreachable(settings: Settings, database: Database) -> Iterator[Trouble]:
    echoes = peers.echoes(database)
    for destination in settings.destinations:
        echo = echoes.get(destination.name)
        if echo is not None and not echo.answered:
            where = destination.url or f"{destination.ae_title} at {destination.host}:{destination.port}"
            sentence = f"destination {destination.name} ({where}) did not answer at {echo.at:%Y-%m-%d %H:%M} UTC"
            yield Trouble("unreachable", f"destination {destination.name}", sentence)


def _disk(settings: Settings, notify: NotifySettings) -> Iterator[Trouble]:
    folder = settings.archive_folder or settings.node.data_dir
    with suppress(OSError):  # the preconditions say what is wrong with it
        free = shutil.disk_usage(folder).free / 1e9
        if free < max(notify.disk_gb, settings.storage.reserve_gb):
            sentence = f"the disk of {folder} has {free:.1f} GB left; below {settings.storage.reserve_gb:g} GB nothing is received"
            yield Trouble("disk", "disk", sentence)


def _expiring(settings: Settings, notify: NotifySettings, now: datetime) -> Iterator[Trouble]:
    for entry, tls in certificate_entries(settings):
        for path in (tls.cert_file, tls.ca_file):
            with suppress(OSError, ValueError):  # the doctor says what is wrong with it
                if path is not None and ((until := expiry(path)) - now).days < notify.certificate_days:
                    sentence = f"{entry}: {path} is valid until {until:%Y-%m-%d}; renew it"
                    yield Trouble("certificate", f"certificate {path}", sentence)


def summary(found: list[Trouble]) -> list[str]:
    """The lines of a message: of many failed jobs the first, and how many more."""
    failed = [trouble.sentence for trouble in found if trouble.topic == "failed"]
    lines = [trouble.sentence for trouble in found if trouble.topic != "failed"] + failed[:_MOST_NAMED]
    if len(failed) > _MOST_NAMED:
        lines.append(f"and {len(failed) - _MOST_NAMED} more failed jobs: diffmsr-node queue list --state failed")
    return lines
