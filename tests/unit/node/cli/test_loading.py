"""What commands load: a person waits for all of it."""

import subprocess
import sys


def loaded(modules: str, among: set[str]) -> set[str]:
    """What of those modules a new interpreter has after it has loaded some others."""
    program = f"import sys, {modules}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    return among & set(found)


def test_commands_that_read_rows_load_neither_dicom_nor_the_page() -> None:
    heavy = {"pydicom", "pynetdicom", "highdicom", "numpy", "torch", "fastapi", "apscheduler", "requests"}
    assert loaded("node.cli.app, node.cli.queue, node.cli.audit, node.cli.version", heavy) == set()


def test_the_service_loads_what_only_some_roles_need_when_they_start() -> None:
    heavy = {"highdicom", "torch", "fastapi", "apscheduler", "dicomweb_client", "node.deliver", "node.match.worker"}
    assert loaded("node.service", heavy) == set()
