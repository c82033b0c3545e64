"""Real peers for the tests. One that is missing skips its tests, loudly, and fails them in CI."""

import contextlib
import os
import pwd
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import until

SYSTEM_PATH = "/usr/bin:/usr/sbin:/usr/local/bin"
"""Where the peers live. Not the virtual environment: pynetdicom installs a storescp of its own there."""


def require(program: str, path: str = SYSTEM_PATH) -> str:
    """The full path of a peer's program; skips the test (fails it in CI) when it is not installed."""
    found = shutil.which(program, path=path)
    if found is None:
        message = f"{program} is not installed; see tests/install-peers.sh"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def free_port() -> int:
    """A port that nobody listens on, below those that Linux gives to outgoing connections (32768 and up): one of these would
    be taken again by the next client of any test."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real MRI that stands beside the repository on the machines of its developers."""
    for folder in (os.environ.get("DIFFMSR_SHARED_DATA"), Path(__file__).parents[2] / "shared" / "data"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    pytest.skip("no shared data beside the repository; name it with DIFFMSR_SHARED_DATA")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of our own, on a socket in a temporary folder; its SQLAlchemy URL without a database."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    require("initdb", str(versions[-1]) if versions else SYSTEM_PATH)
    root = tmp_path_factory.mktemp("postgres")
    as_user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        user = pwd.getpwnam("postgres")
        for folder in (root, *root.parents[:2]):
            folder.chmod(0o755)
        os.chown(root, user.pw_uid, user.pw_gid)
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    data, binaries = root / "data", versions[-1]
    subprocess.run(
        [*as_user, binaries / "initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync"],
        check=True,
        capture_output=True,
    )
    server = subprocess.Popen(
        [*as_user, binaries / "postgres", "-D", data, "-k", root, "-c", "listen_addresses=", "-c", "fsync=off"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:

        def ready() -> bool:
            assert server.poll() is None, "PostgreSQL did not start"
            return subprocess.run([binaries / "pg_isready", "-h", root, "-q"], check=False).returncode == 0

        until(ready, "PostgreSQL is ready")
        yield f"postgresql+psycopg://tester@/%s?host={root}"
    finally:
        server.terminate()
        server.wait()
