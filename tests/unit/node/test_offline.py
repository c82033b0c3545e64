"""Folders of files as people keep them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import Dataset
from typer.testing import CliRunner

from node.cli.app import app
from node.config.settings import Settings
from node.errors import NotFoundError
from node.folder import by_reason, explain_folder, read_folder
from node.telemetry.log import printable
from tests.dicom import study, volume_of, write


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    for name, images in zip(("t2", "t1"), study(3), strict=True):
        write(images, folder / name)
    return folder


def test_links_to_folders_are_followed_once_and_loops_end(real: Path, tmp_path: Path) -> None:
    for name in ("t1", "t2"):
        (tmp_path / name).symlink_to(real / name, target_is_directory=True)
    (tmp_path / "back").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again").symlink_to(real / "t1", target_is_directory=True)
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    found = read_folder(tmp_path)
    assert len(found.instances) == 6
    assert list(by_reason(found.skipped)) == ["a symbolic link to nothing"]


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_data_sets_without_the_header_of_part_10_are_read(tmp_path: Path, implicit: bool, little: bool) -> None:
    images = study(3)[0]
    for i, image in enumerate(images):
        if not little:
            image.PixelData = image.pixel_array.astype(">u2").tobytes()
        bare = Dataset(image)
        bare.save_as(tmp_path / f"{i}", implicit_vr=implicit, little_endian=little)
    found = read_folder(tmp_path)
    assert not found.skipped
    pixels = volume_of([tmp_path / f"{i}" for i in range(3)]).pixels
    assert pixels.max() > 100 and pixels.shape == (3, 24, 32)


def test_what_is_no_dicom_file_is_counted_by_reason(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b").write_bytes(b"\x08\x00" + bytes(range(200)))
    with pytest.raises(NotFoundError, match="2 files: not a DICOM file"):
        read_folder(tmp_path)


def test_how_far_a_folder_is_read_and_matched_can_be_watched(real: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    found = read_folder(real, lambda *step: seen.append(step))
    explain_folder(found, Settings(), lambda *step: seen.append(step))
    assert seen == [*(("reading files", n, 6) for n in range(1, 7)), ("matching studies", 1, 1)]


def test_explain_lists_the_files_that_it_skipped(real: Path, tmp_path: Path) -> None:
    shutil.copytree(real, tmp_path / "study")
    (tmp_path / "study" / "notes.txt").write_text("text")
    done = CliRunner().invoke(app, ["explain", str(tmp_path / "study"), "--json"])
    told = json.loads(done.stdout)
    assert told["skipped"] == [{"path": str(tmp_path / "study" / "notes.txt"), "why": "not a DICOM file"}]
    assert len(told["studies"]) == 1


def test_a_terminal_that_is_not_utf_8_gets_question_marks(tmp_path: Path) -> None:
    t2, t1 = study(3)
    for image in t2:
        image.SpecificCharacterSet, image.SeriesDescription = "ISO_IR 192", "survey 頭部"
    write([*t2, *t1], tmp_path)
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    shown = subprocess.run(
        [sys.executable, "-m", "node.cli", "explain", tmp_path], env=environment, capture_output=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert b"survey ??" in shown.stdout


def test_logs_escape_and_cut_what_a_peer_chose() -> None:
    said = printable(None, "", {"study": "1.2\n\x1b[2J" + "9" * 500, "event": "x", "new": 3})
    assert said == {"study": "1.2\\n\\x1b[2J" + "9" * 56 + "...", "event": "x", "new": 3}
