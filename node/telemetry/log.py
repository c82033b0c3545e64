"""Logs: structured, on stderr, JSON when nobody is watching. UIDs and numbers only; patient data has no place here.

In every line `error` is the type of an exception, and `reason` a sentence.

Libraries that log through stdlib logging (alembic, apscheduler) come out in the same form, from WARNING up.
"""

import logging
import sys
import warnings

import structlog
from pydicom import config as pydicom_config


def configure_logging(level: str, json: bool | None = None) -> None:
    """Send all logs to stderr. `json` None: JSON lines unless stderr is a terminal."""
    as_json = not sys.stderr.isatty() if json is None else json
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
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
    """pydicom quotes malformed values, which may be names, and pynetdicom prints the text of what it caught: both stay out of
    the log. What is wrong with a peer or a data set, our own packages say in their words.

    Set once per process, before any thread starts. pydicom has one switch for all threads, so no stage may turn it."""
    for library in ("pydicom", "pynetdicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module="pydicom")
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    pydicom_config.settings.writing_validation_mode = pydicom_config.IGNORE


def place_of(error: BaseException) -> str:
    """Module and line, innermost of our own packages, that an exception came from. Its text, which may quote the data
    it stumbled on, stays out."""
    place = "?"
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if name.startswith(("node.", "diffmsr.")):
            place = f"{name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
