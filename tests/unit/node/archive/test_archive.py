import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian

from node.archive.facade import Archive
from node.archive.local import write_durably
from node.dicom.read import read_header, read_instance
from node.dicom.uid import is_uid
from node.errors import DamagedFileError, StorageError
from node.result import Result
from tests.dicom import mr_series, write


def result() -> Result:
    return Result(
        pixels=np.arange(24, dtype=np.float32).reshape(2, 3, 4), positions=np.eye(3)[:2], orientation=((1, 0, 0), (0, 1, 0)),
        spacing=(0.5, 0.25), source_uids=["1.1", "1.2"], reference_uids=[["2.1"], ["2.1", "2.2"]], model_name="tiny",
        model_version="1", weights_sha256="ab", scale=4, parameters={"precision": "float32"}, warnings=["W: so"],
    )  # fmt: skip


def test_a_result_comes_back_as_it_was_put(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    assert not archive.has_result("key")
    archive.put_result("key", result())
    found, put = archive.open_result("key"), result()
    assert archive.has_result("key")
    assert np.array_equal(found.pixels, put.pixels)
    assert np.array_equal(found.positions, put.positions)
    for name in ("orientation", "spacing", "source_uids", "reference_uids", "weights_sha256", "parameters", "warnings"):
        assert getattr(found, name) == getattr(put, name)


@pytest.mark.parametrize("damage", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_a_damaged_result_is_one_clear_error(tmp_path: Path, damage: bytes) -> None:
    archive = Archive(tmp_path)
    (tmp_path / "results" / "key.npz").write_bytes(damage)
    with pytest.raises(StorageError, match="key"):
        archive.open_result("key")
    with pytest.raises(StorageError, match="other"):
        archive.open_result("other")


@given(st.text())
def test_no_text_but_a_uid_can_name_a_file(text: str) -> None:
    if is_uid(text):
        assert set(text) <= set("0123456789.")
        assert ".." not in text
        assert not text.startswith(".")
        assert 1 <= len(text) <= 64


def test_an_instance_is_refused_a_name_that_is_no_uid(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="UID"):
        Archive(tmp_path).put_instance("1.2", "../../x", "1.2.3", b"")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        write_durably(tmp_path / "file" / "below.dcm", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# ---------------------------------------------------------------------- files that may be damaged


def test_a_damaged_file_is_not_taken_for_a_disk_that_fails(tmp_path: Path) -> None:
    (ds,) = mr_series(1)
    (whole,) = write([ds], tmp_path)
    content = whole.read_bytes()
    assert read_instance(whole) == ds
    for name, damaged, reason in [
        ("text", b"hello", "not a DICOM file"),
        ("garbled", content.replace(b"ISO_IR 100", b"\0SO_IR 100"), "damaged"),
        ("no VR", content.replace(b"\x08\x00\x05\x00CS", b"\x08\x00\x05\x00CW"), "damaged"),
    ]:
        path = tmp_path / name
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=reason):
            read_header(path)
    with pytest.raises(StorageError, match="No such file"):
        read_header(tmp_path / "gone")


def test_what_is_deflated_may_not_fill_memory(tmp_path: Path) -> None:
    (ds,) = mr_series(1)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    (path,) = write([ds], tmp_path)
    assert read_instance(path).PixelData == ds.PixelData
    ds.add_new(0x7FE1_0010, "LO", "bomb")
    ds.add_new(0x7FE1_1001, "OB", bytes(300_000_000))
    (path,) = write([ds], tmp_path)
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFileError, match="ValueError"):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
