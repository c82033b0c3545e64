"""A symbolic link in the place of a file that the node writes: its target is neither written, emptied nor made."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from node import checks
from node.archive.facade import Archive
from node.cli import init
from node.config.settings import NodeSettings, Settings
from node.errors import NodeError
from node.identity import node_id
from node.locks import only_one
from node.receive.adopt import mark
from node.roles import Role
from node.web.users import write_users


def lock_a_role(data: Path) -> None:
    with only_one(data, [Role.WEB]):
        pass


def discard(data: Path) -> None:
    Archive.in_folder(data).discard_incoming()


WRITERS: dict[str, Callable[[Path], object]] = {
    "receiving": mark,
    ".write-probe": lambda data: checks.data_folder(Settings(node=NodeSettings(data_dir=data))),
    "service-web-HOST.lock": lock_a_role,
    "node-id": node_id,
    "users.toml": lambda data: write_users(data / "users.toml", {}),
    "node.toml": lambda data: init._written(data / "node.toml", ""),
    "incoming/NODE/1/process.lock": discard,
}


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("name", WRITERS)
def test_a_link_leads_nowhere(name: str, is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "HOST")
    data, target = tmp_path / "data", tmp_path / "target"
    data.mkdir()
    if is_there:
        target.write_text("precious\n")
    link = data / name.replace("NODE", node_id(data) if "NODE" in name else "")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    with suppress(NodeError):
        WRITERS[name](data)
    assert target.exists() == is_there
    assert not is_there or target.read_text() == "precious\n"
