"""What a line of the log may hold."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import structlog

from node.telemetry import log

NODE = Path(__file__).parents[4] / "node"

MALFORMED = """
import threading
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from node.telemetry.log import configure_logging
configure_logging("DEBUG", json=True)
def read():
    ds = Dataset()
    for keyword, vr in (("RepetitionTime", "DS"), ("PatientBirthDate", "DA"), ("SOPInstanceUID", "UI")):
        ds[keyword] = RawDataElement(Tag(keyword), vr, 12, b"Miller^Mary ", 0, False, True)
        try:
            ds[keyword].value
        except Exception:
            pass
    ds.PatientID = "Miller^Mary" * 10
threads = [threading.Thread(target=read) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
read()
"""


def logged() -> Iterator[tuple[str, ast.keyword]]:
    """(where, field) of every field of every line that the node logs."""
    for path in sorted(NODE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            logger = call.func.value
            if isinstance(logger, ast.Name) and logger.id in ("log", "logger"):
                for keyword in call.keywords:
                    yield f"{path.relative_to(NODE)}:{call.lineno}", keyword


def test_error_is_the_type_of_an_exception_and_nothing_else_is() -> None:
    fields = list(logged())
    assert len(fields) > 50, "they are found"
    for where, field in fields:
        is_type = ast.unparse(field.value).startswith("type(") and ast.unparse(field.value).endswith(".__name__")
        assert (field.arg == "error") == is_type, f"{where}: {field.arg}={ast.unparse(field.value)}"


def test_a_reason_is_called_so() -> None:
    """One word for one thing."""
    for where, field in logged():
        assert field.arg not in ("why", "what", "says", "message", "cause"), f"{where}: {field.arg}"


def test_malformed_values_do_not_reach_the_log() -> None:
    done = subprocess.run([sys.executable, "-c", MALFORMED], capture_output=True, text=True, check=True)
    assert "Miller" not in done.stdout + done.stderr


def test_lines_are_json_when_nobody_is_watching() -> None:
    program = (
        "from node.telemetry.log import configure_logging; import structlog, logging\n"
        "configure_logging('INFO')\n"
        "structlog.get_logger('node.x').info('event.one', study='1.2', reason='it did')\n"
        "logging.getLogger('apscheduler').warning('of a library')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    own, foreign = (json.loads(line) for line in done.stderr.splitlines())
    assert (own["event"], own["reason"], own["level"]) == ("event.one", "it did", "info")
    assert foreign["event"] == "of a library"


def test_what_a_part_raises_at_a_stop_is_one_line_and_nothing_else() -> None:
    with structlog.testing.capture_logs() as lines, log.logged("stop.failed"):
        raise OSError("/data/Miller^Mary: read-only file system")
    (line,) = lines
    assert (line["event"], line["error"]) == ("stop.failed", "OSError") and "Miller" not in str(line)
