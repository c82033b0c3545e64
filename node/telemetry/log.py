"""Logs: structured, on stderr, as JSON unless that is a terminal. They contain UIDs and numbers only, no patient data.

In every line `error` is the type of an exception, and `reason` a sentence.

Libraries that log through stdlib logging (alembic, apscheduler) appear in the same form, from WARNING up.
"""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

LONGEST, LONGEST_UID = 2000, 64  # characters of a value in a line
_UIDS = frozenset({"study", "series", "sop_instance", "sop_class"})


def printable(logger: object, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What a peer sent may hold control characters, which a terminal obeys: show them escaped. It may be long: cut it."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _escaped(_cut(value, LONGEST_UID if key in _UIDS else LONGEST))
        elif isinstance(value, list | tuple):
            event[key] = [_escaped(one) if isinstance(one, str) else one for one in value]
    return event


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


def _escaped(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def configure_logging(level: str, json: bool | None = None) -> None:
    """Send all logs to stderr. `json` None: JSON lines unless stderr is a terminal."""
    as_json = not sys.stderr.isatty() if json is None else json
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        printable,
    ]
    renderer: structlog.typing.Processor
    if as_json:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("node").setLevel(level)
    _quiet_libraries()
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _quiet_libraries() -> None:
    """Keep pydicom and pynetdicom out of the log: the former quotes malformed values, which may be names, the latter prints
    the text of exceptions. Our own packages report what is wrong with a peer or a data set. Neither is loaded for it: most
    commands read no DICOM, see `node.dicom.tolerance`."""
    for library in ("pydicom", "pynetdicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module="pydicom")


def log_crashes() -> None:
    """An exception that nobody catches becomes one line of the log, of a thread as of the process: never a traceback,
    which may quote the data it stumbled on."""
    sys.excepthook = lambda kind, error, trace: _crashed(error, "main")
    threading.excepthook = lambda crash: _crashed(crash.exc_value, crash.thread.name if crash.thread else "?")


def _crashed(error: BaseException | None, thread: str) -> None:
    if isinstance(error, KeyboardInterrupt):
        return
    where = place_of(error) if error is not None else "?"
    structlog.get_logger("node").critical("crashed", error=type(error).__name__, where=where, thread=thread)


@contextmanager
def logged(event: str) -> Iterator[None]:
    """Whatever the block raises becomes one line of the log, and the caller goes on."""
    try:
        yield
    except Exception as error:
        structlog.get_logger("node").error(event, error=type(error).__name__, where=place_of(error))


def place_of(error: BaseException) -> str:
    """Module and line, innermost in our own packages, from which an exception came. Its text may quote the data that caused
    it, so it is left out."""
    place = "?"
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if name.startswith(("node.", "diffmsr.")):
            place = f"{name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
