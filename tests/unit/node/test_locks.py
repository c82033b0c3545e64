"""One service per role, host and data folder."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from node.errors import ConfigError, NodeError
from node.identity import worker_name, workers_of
from node.locks import only_one, running_roles
from node.roles import Role


def test_a_role_runs_once_and_others_beside_it(tmp_path: Path) -> None:
    with only_one(tmp_path, [Role.RECEIVE, Role.MATCH]):
        with (
            pytest.raises(NodeError, match=f"the role receive is already running on .*{os.getpid()}"),
            only_one(tmp_path, [Role.INFER, Role.RECEIVE]),
        ):
            pass
        with only_one(tmp_path, [Role.INFER]):
            assert set(running_roles(tmp_path)) == {"receive", "match", "infer"}
        assert running_roles(tmp_path)[Role.MATCH].pid == os.getpid()
    assert running_roles(tmp_path) == {}
    with only_one(tmp_path, [Role.RECEIVE]):
        pass


def test_another_data_folder_is_another_service(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with only_one(tmp_path / "one", list(Role)), only_one(tmp_path / "two", list(Role)):
        pass


def test_a_lock_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from node.locks import only_one; from node.roles import Role\n"
        "with only_one(Path(sys.argv[1]), [Role.MATCH]): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None and other.stdin is not None
    assert other.stdout.readline() == b"held\n"
    assert running_roles(tmp_path)[Role.MATCH].pid == other.pid
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()
    assert running_roles(tmp_path) == {}


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data_dir: cannot write"), only_one(tmp_path / "none", [Role.MATCH]):
        pass


def test_workers_of_two_services_on_one_host_have_different_names(tmp_path: Path) -> None:
    names = [worker_name(tmp_path / folder, Role.INFER, 1) for folder in ("one", "two")]
    assert names[0] != names[1]
    assert names[0] == worker_name(tmp_path / "one", Role.INFER, 1), "and keep them"
    assert names[0].startswith(workers_of(tmp_path / "one", Role.INFER))
    assert not names[0].startswith(workers_of(tmp_path / "one", Role.MATCH))
    assert not names[1].startswith(workers_of(tmp_path / "one", Role.INFER))


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    (tmp_path / f"service-{Role.MATCH}-{socket.gethostname()}.lock").symlink_to(other)
    with pytest.raises(ConfigError, match="cannot write"), only_one(tmp_path, [Role.MATCH]):
        pass
    assert other.read_text() == "kept"
