"""Hosts as network namespaces, connected by a bridge. It needs root, and touches nothing but what it makes."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

_BRIDGE = "dmsr-br"
HERE = "10.77.0.1"
"""The address of the database, the PACS and the scanner."""


class Network:
    """A bridge, and a namespace for each host. `with` removes all of it in the end."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = list(hosts)

    def __enter__(self) -> "Network":
        self._remove()
        _ip("link", "add", _BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{HERE}/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        for host in self._hosts:
            inside = _namespace(host)
            _ip("netns", "add", inside)
            _ip("link", "add", _outer(host), "type", "veth", "peer", "name", "eth0", "netns", inside)
            _ip("link", "set", _outer(host), "master", _BRIDGE)
            _ip("link", "set", _outer(host), "up")
            _ip("-n", inside, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            _ip("-n", inside, "link", "set", "eth0", "up")
            _ip("-n", inside, "link", "set", "lo", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._remove()

    def address(self, host: str) -> str:
        return f"10.77.0.{self._hosts.index(host) + 2}"

    def inside(self, host: str) -> list[str]:
        """What a command begins with that is to run on a host."""
        return ["ip", "netns", "exec", _namespace(host)]

    def cut_off(self, host: str) -> None:
        """Packets get lost in both directions; nobody is told."""
        _ip("link", "set", _outer(host), "down")

    def connect(self, host: str) -> None:
        _ip("link", "set", _outer(host), "up")

    def _remove(self) -> None:
        for host in self._hosts:
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", _namespace(host))
            with suppress(subprocess.CalledProcessError):
                _ip("link", "del", _outer(host))
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", _BRIDGE)


def _namespace(host: str) -> str:
    return f"dmsr-{host}"


def _outer(host: str) -> str:
    return f"dmsr-{host}"[:15]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
