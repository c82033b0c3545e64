"""A PostgreSQL server of its own, which can be killed and started again."""

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from tests.conftest import SYSTEM_PATH, free_port, require
from tests.waiting import until


class Server:
    """The server, listening on an address. Everybody may log in."""

    def __init__(self, folder: Path, address: str) -> None:
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        self._programs = Path(require("initdb", str(versions[-1]) if versions else SYSTEM_PATH)).parent
        self._folder, self._data = folder, folder / "data"
        self._address, self._port = address, free_port()
        folder.mkdir()
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # the server refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        made = [*self._as_user, self._programs / "initdb", "-D", self._data, "-A", "trust", "-U", "diffmsr"]
        subprocess.run(made, check=True, capture_output=True)
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {address}/24 trust\n")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://diffmsr@{self._address}:{self._port}/postgres"

    def start(self) -> None:
        command = [
            *self._as_user, self._programs / "postgres", "-D", self._data, "-k", self._folder, "-p", str(self._port),
            "-c", f"listen_addresses={self._address}",
        ]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        until(lambda: self.ask("SELECT 1"), "PostgreSQL answers")

    def kill(self) -> None:
        """Without mercy for open transactions."""
        subprocess.run(
            [*self._as_user, self._programs / "pg_ctl", "stop", "-m", "immediate", "-D", self._data],
            check=True,
            capture_output=True,
        )
        self._process.wait()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query; none while the server or the table is not there."""
        try:
            with psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=5) as connection:
                return connection.execute(query.encode()).fetchall()
        except psycopg.Error:
            return []
