"""A folder as archive: whole files, several hosts, and wherever it is mounted."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from node.archive.facade import Archive
from node.archive.layout import FOLDERS
from node.archive.local import LocalFolder, write_durably
from node.errors import ConfigError, MissingError, StorageError
from node.identity import node_id
from tests.unit.node.archive.test_archive import UIDS, received


def folder(root: Path, home: Path | None = None) -> LocalFolder:
    return LocalFolder(root, FOLDERS, home=home)


def half_written(root: Path) -> list[Path]:
    return sorted((root / "incoming").rglob(".part-*"))


def test_the_data_folder_may_be_moved_or_mounted_elsewhere(tmp_path: Path) -> None:
    content, digest = received()
    key = Archive.in_folder(tmp_path / "here").put_instance(*UIDS, content, digest)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert Archive.in_folder(tmp_path / "there").instance(key, digest).content() == content
    (tmp_path / "mounted").symlink_to(tmp_path / "there")
    assert Archive.in_folder(tmp_path / "mounted").instance(key, digest).content() == content


CRASHES = """
import os, sys
from pathlib import Path
from node.archive.layout import FOLDERS
from node.archive.local import LocalFolder
folder = LocalFolder(Path(sys.argv[1]), FOLDERS, home=Path(sys.argv[2]))
folder.create(f"results/whole-{os.getpid()}.npz", b"whole")
def stop(descriptor):
    print("half", flush=True)
    sys.stdin.readline()
    os._exit(1)
os.fsync = stop
folder.create("results/half.npz", b"half")
"""


def writer(root: Path, home: Path) -> "subprocess.Popen[str]":
    """A process of the node at `home` that has a file half-written, until it is told to crash."""
    command = [sys.executable, "-c", CRASHES, str(root), str(home)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


def crash(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()


def test_what_a_crash_left_is_removed_and_what_others_are_writing_stays(tmp_path: Path) -> None:
    root, ours, theirs = tmp_path / "shared", tmp_path / "host 1", tmp_path / "host 2"
    root.mkdir()
    crashed, beside, other_host = writer(root, ours), writer(root, ours), writer(root, theirs)
    crash(crashed)
    assert len(half_written(root)) == 3
    assert folder(root, ours).discard_incoming() == 1
    assert len(half_written(root)) == 2, "of a living process of this node, and of another node"
    crash(other_host)
    assert folder(root, ours).discard_incoming() == 0, "another node's, dead or alive, is not ours"
    assert folder(root, theirs).discard_incoming() == 1
    crash(beside)
    assert folder(root, ours).discard_incoming() == 1
    assert half_written(root) == []
    assert not folder(root).exists("results/half.npz")
    assert len(list(folder(root).keys("results/"))) == 3


def test_one_that_cleans_up_goes_on_writing(tmp_path: Path) -> None:
    one = folder(tmp_path)
    one.create("results/a.npz", b"a")
    assert one.discard_incoming() == 0
    one.create("results/b.npz", b"b")
    assert one.read("results/b.npz") == b"b"


def test_what_a_version_with_one_folder_for_all_left_is_removed(tmp_path: Path) -> None:
    archive = folder(tmp_path)
    (tmp_path / "incoming" / ".part-old").write_bytes(b"half")
    assert archive.discard_incoming() == 1
    assert half_written(tmp_path) == []


def test_a_node_has_one_identity_wherever_its_folder_is(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(node_id(tmp_path / "a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert node_id(tmp_path / "b") != found[0]
    shutil.move(tmp_path / "a", tmp_path / "c")
    assert node_id(tmp_path / "c") == found[0]
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["node-id"]


@pytest.mark.parametrize("links", [True, False], ids=["", "no hard links"])
def test_of_many_who_create_one_thing_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        assert folder(tmp_path).create("results/a.npz", b"first")
        assert not folder(tmp_path).create("results/a.npz", b"second")
        assert folder(tmp_path).read("results/a.npz") == b"first"
        return
    hosts = [folder(tmp_path, tmp_path / str(n)) for n in range(8)]
    together = threading.Barrier(len(hosts))
    created: list[int] = []

    def create(n: int) -> None:
        together.wait()
        if hosts[n].create("results/a.npz", str(n).encode()):
            created.append(n)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(len(hosts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = created
    assert hosts[0].read("results/a.npz") == str(winner).encode()
    assert half_written(tmp_path) == []


def test_an_archive_that_is_not_mounted_has_lost_nothing(tmp_path: Path) -> None:
    archive = folder(tmp_path / "mnt")
    archive.create("results/a.npz", b"a")
    with pytest.raises(MissingError):
        archive.read("results/b.npz")
    (tmp_path / "mnt").rename(tmp_path / "elsewhere")
    (tmp_path / "mnt").mkdir()
    with pytest.raises(StorageError, match="mounted") as caught:
        archive.read("results/a.npz")
    assert caught.value.retryable


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    archive = folder(tmp_path)
    archive.create("instances/1/2/3.dcm", b"a")
    archive.delete("instances/1/")
    archive.create("instances/1/2/3.dcm", b"b")
    assert archive.read("instances/1/2/3.dcm") == b"b"


def test_a_place_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot make"):
        folder(tmp_path / "file" / "data")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        write_durably(tmp_path / "file" / "below.dcm", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    archive = folder(tmp_path / "data")
    (tmp_path / "data" / "results" / "a.npz").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        archive.replace("results/a.npz", b"x")
    assert half_written(tmp_path / "data") == []


def test_to_read_makes_nothing(tmp_path: Path) -> None:
    archive = Archive.in_folder(tmp_path / "data", make=False)
    with pytest.raises(StorageError, match="is its file system mounted"):
        archive.page("infer:1")
    assert not (tmp_path / "data").exists()
