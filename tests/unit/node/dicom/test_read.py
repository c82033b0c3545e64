"""Reading files that may be damaged or hostile."""

import tracemalloc
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from node.dicom.read import InstanceFile
from node.errors import DamagedFileError, StorageError
from tests.dicom import mr_series, write


def test_a_damaged_file_is_not_taken_for_a_disk_that_fails(tmp_path: Path) -> None:
    (ds,) = mr_series(1)
    (whole,) = write([ds], tmp_path)
    content = whole.read_bytes()
    assert InstanceFile(whole).read_instance() == ds
    for name, damaged, reason in [
        ("text", b"hello", "not a DICOM file"),
        ("garbled", content.replace(b"ISO_IR 100", b"\0SO_IR 100"), "damaged"),
        ("no VR", content.replace(b"\x08\x00\x05\x00CS", b"\x08\x00\x05\x00CW"), "damaged"),
    ]:
        path = tmp_path / name
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=reason):
            InstanceFile(path).read_header()
    with pytest.raises(StorageError, match="No such file"):
        InstanceFile(tmp_path / "gone").read_header()


def test_what_is_deflated_may_not_fill_memory(tmp_path: Path) -> None:
    (ds,) = mr_series(1)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    (path,) = write([ds], tmp_path)
    assert InstanceFile(path).read_instance().PixelData == ds.PixelData
    ds.add_new(0x7FE1_0010, "LO", "bomb")
    ds.add_new(0x7FE1_1001, "OB", bytes(300_000_000))
    (path,) = write([ds], tmp_path)
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFileError, match="ValueError"):
            InstanceFile(path).read_header()
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
