"""Data sets and commands as real senders write them against the standard: they are taken, on both data paths."""

import struct
from io import BytesIO

import pytest
from pydicom import dcmread

from node.archive.facade import Archive
from node.dicom.part10 import without_meta
from node.receive.server import Receiver
from node.tracker.handle import Tracker
from node.tracker.instances import of_study
from tests.hostile.wire import EXPLICIT, IMPLICIT, MR, Wire, data_set, store_command, us


def meta(implicit: bool = False) -> bytes:
    """Elements of a file's header, one of which contradicts the presentation context."""
    said = {0x0000: (b"UL", us(60) + us(0)), 0x0001: (b"OB", b"\0\1"), 0x0010: (b"UI", b"1.2.840.10008.1.2.2\0")}
    found = b""
    for number, (vr, value) in said.items():
        if implicit:
            length = struct.pack("<L", len(value))
        elif vr == b"OB":
            length = vr + struct.pack("<2xL", len(value))
        else:
            length = vr + struct.pack("<H", len(value))
        found += struct.pack("<HH", 2, number) + length + value
    return found


def test_what_is_irregular_is_taken(receiver: Receiver, archive: Archive, tracker: Tracker) -> None:
    plain = data_set("1.2.826.37.1")
    odd = plain.replace(b"PN\x0c\x00Phantom^Wire", b"PN\x0b\x00Phantom^Odd")
    odd = odd.replace(b"\x08\x00\x60\x00CS\x02\x00MR", b"\x08\x00\x60\x00CS\x02\x00MR\x08\x00\x70\x00LO\x03\x00GEM")
    blanks = data_set("1.2.826.37.2").replace(b"UI\x08\x001.2.3.2\0", b"UI\x0a\x001.2.3.2   ")
    assert odd.count(b"Phantom^Odd") == odd.count(b"GEM") == blanks.count(b"1.2.3.2   ") == 1
    with Wire(receiver.port) as wire:
        wire.associate()
        assert wire.store("1.2.826.37.1", odd).status == 0
        wire.message(1, store_command(b"1.2.826.37.2  ", sop_class=f"{MR}   "), blanks)
        answer = wire.receive()
        assert answer is not None and answer.status == 0
        assert wire.store("1.2.826.37.3", meta() + data_set("1.2.826.37.3")).status == 0
        wire.release()
    stored = {uid: one.content() for uid, one in of_study(tracker, archive, "1.2.3.1").items()}
    contents = {"1.2.826.37.1": odd, "1.2.826.37.2": blanks, "1.2.826.37.3": data_set("1.2.826.37.3")}
    assert set(stored) == set(contents)
    for uid, content in contents.items():
        assert stored[uid].endswith(content)
        read = dcmread(BytesIO(stored[uid]))
        assert (read.file_meta.TransferSyntaxUID, read.SeriesInstanceUID, read.Rows) == (EXPLICIT, "1.2.3.2", 8)


@pytest.mark.parametrize("implicit", [False, True])
def test_group_0002_is_no_part_of_a_data_set(implicit: bool) -> None:
    data = b"\x08\x00\x16\x00rest"
    assert without_meta(meta(implicit) + data, IMPLICIT if implicit else EXPLICIT) == data
    assert without_meta(data, EXPLICIT) == data
    assert bytes(without_meta(memoryview(meta(implicit))[:9], EXPLICIT)) == meta(implicit)[:9]
