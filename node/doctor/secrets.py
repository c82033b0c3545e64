"""The files that hold keys and passwords: nobody but their owner and group may read them."""

import stat
from collections.abc import Iterator
from pathlib import Path

from node.certificates import certificate_entries
from node.checks import Check, Level
from node.config.settings import Settings


def secrets(settings: Settings) -> Iterator[Check]:
    """A warning for each file that every account of this host may read. A file that is missing is named where it is used."""
    for entry, path in _files(settings):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            sentence = f"{entry}: every account of this host may read or write {path} (mode {stat.S_IMODE(mode):04o})"
            yield Check("key and password files", Level.WARN, sentence, f"chmod o= {path}")


def _files(settings: Settings) -> Iterator[tuple[str, Path]]:
    for entry, tls in certificate_entries(settings):
        yield f"{entry} key_file", tls.key_file
    for destination in settings.destinations:
        if destination.password_file is not None:
            yield f"password_file of {destination.name}", destination.password_file
    if settings.node.database_url_file is not None:
        yield "[node] database_url_file", settings.node.database_url_file
    if settings.notify is not None and settings.notify.urls_file is not None:
        yield "[notify] urls_file", settings.notify.urls_file
    if settings.web.users_file is not None:
        yield "[web] users_file", settings.web.users_file
