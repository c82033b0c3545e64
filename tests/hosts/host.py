"""A host: a namespace, a data folder of its own, and a service with some of the roles."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.hosts.network import HERE, Network
from tests.program import PROGRAM

PORT = 11112


class Host:
    """Not started yet."""

    def __init__(
        self, network: Network, name: str, roles: Sequence[str], folder: Path, archive: Path, url: str, pacs: int
    ) -> None:
        self.name, self.roles, self.address = name, list(roles), network.address(name)
        self._network = network
        self.folder = folder / name
        self.folder.mkdir()
        self.config = self.folder / "node.toml"
        self.config.write_text(f"""
            node = {{ data_dir = "data", database_url = "{url}" }}
            scp = {{ host = "{self.address}", port = {PORT} }}
            completion.series_quiet_s = 2
            storage = {{ reserve_gb = 0.01, archive = "{archive}" }}
            web.enabled = false
            [[destinations]]
            name = "pacs"
            ae_title = "PACS"
            host = "{HERE}"
            port = {pacs}
            initial_delay_s = 0.5
            max_delay_s = 2
        """)

    def start(self) -> None:
        roles = [part for role in self.roles for part in ("--role", role)]
        command = [*self._network.inside(self.name), str(PROGRAM), "start", *roles, "--config", str(self.config)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )

    def signal(self, number: int) -> None:
        """To every process of the host."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait()

    @property
    def node(self) -> str:
        """What the names of its workers begin with, after the name of the machine."""
        return (self.folder / "data" / "node-id").read_text().strip()

    def log(self) -> str:
        return (self.folder / "log").read_text()
