"""What the archive promises, whether it is a folder or a bucket."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from node.archive.backend import Backend
from node.archive.codec import Measured, encode_result
from node.archive.digest import Digest, data_set_starts, sha256
from node.archive.facade import Archive
from node.archive.layout import index_key, instance_key, result_key
from node.dicom.transfer_syntax import to_bytes
from node.errors import DamagedError, MissingError, StorageError
from tests.dicom import mr_series

UIDS = "1.2", "1.2.3", "1.2.3.4"


def backend(archive: Archive) -> Backend:
    return archive._backend


def received(**attributes: Any) -> tuple[bytes, Digest]:
    """An instance as the receiver keeps it."""
    (ds,) = mr_series(1, **attributes)
    content = to_bytes(ds)
    return content, Digest(sha256(content[data_set_starts(content) :]), str(ds.file_meta.TransferSyntaxUID))


def spoil(archive: Archive, key: str, at: int = -100) -> None:
    content = bytearray(backend(archive).read(key))
    content[at] ^= 1
    backend(archive).replace(key, bytes(content))


# ---------------------------------------------------------------------- instances as received


def test_an_instance_comes_back_as_it_was_put(archive: Archive) -> None:
    content, digest = received()
    key = archive.put_instance(*UIDS, content, digest)
    assert key == instance_key(*UIDS)
    stored = archive.instance(key, digest)
    assert stored.content() == content
    assert stored.is_intact()
    header, instance = stored.read_header(), stored.read_instance()
    assert "PixelData" not in header
    assert len(instance.PixelData) == 2 * header.Rows * header.Columns


def test_a_put_that_is_repeated_changes_nothing(archive: Archive) -> None:
    content, digest = received()
    key = archive.put_instance(*UIDS, content, digest)
    assert archive.put_instance(*UIDS, content, digest) == key
    assert list(backend(archive).keys("instances/1.2/")) == [key]


def test_other_content_of_the_same_uid_overwrites_nothing(archive: Archive) -> None:
    """Two hosts may receive one SOP instance UID with different content at the same moment; the tracker decides."""
    kinds = [received(PatientID=patient) for patient in ("P1", "P2", "P3")]
    keys = [archive.put_instance(*UIDS, *kind) for kind in kinds]
    assert len(set(keys)) == 3
    for key, (content, digest) in zip(keys, kinds, strict=True):
        assert archive.instance(key, digest).content() == content
    assert [archive.put_instance(*UIDS, *kind) for kind in kinds] == keys, "and again"


@pytest.mark.parametrize("at", [-1, -100, 400])
def test_a_bit_that_flipped_is_noticed(archive: Archive, at: int) -> None:
    content, digest = received()
    key = archive.put_instance(*UIDS, content, digest)
    spoil(archive, key, at)
    stored = archive.instance(key, digest)
    assert not stored.is_intact()
    for read in (stored.read_header, stored.read_instance, stored.content):
        with pytest.raises(DamagedError, match=r"^E_STORED_DAMAGED: .*1\.2\.3\.4") as caught:
            read()
        assert not caught.value.retryable


def test_a_transfer_syntax_that_changed_is_noticed(archive: Archive) -> None:
    content, digest = received()
    key = archive.put_instance(*UIDS, content, digest)
    spoil(archive, key, content.index(b"1.2.840.10008.1.2.1") + 18)
    assert not archive.instance(key, digest).is_intact()


@pytest.mark.parametrize("first", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_a_transfer_syntax_that_begins_like_another_is_not_that_other(first: str) -> None:
    content, digest = received()
    other = Digest(digest.sha256, first)
    assert other.holds(content) == (first == "1.2.840.10008.1.2.1")


def test_what_is_lost_can_be_put_again(archive: Archive) -> None:
    content, digest = received()
    key = archive.put_instance(*UIDS, content, digest)
    spoil(archive, key)
    second = archive.put_instance(*UIDS, content, digest)
    assert archive.instance(second, digest).is_intact()
    spoil(archive, second)
    third = archive.put_instance(*UIDS, content, digest)
    assert archive.instance(third, digest).is_intact()
    backend(archive).delete(third)
    assert not archive.instance(third, digest).is_intact()
    with pytest.raises(MissingError, match=r"^E_STORED_MISSING: "):
        archive.instance(third, digest).content()


def test_an_instance_is_refused_a_key_of_what_is_no_uid(archive: Archive) -> None:
    content, digest = received()
    with pytest.raises(StorageError, match="UID"):
        archive.put_instance("1.2", "../../x", "1.2.3", content, digest)


# ---------------------------------------------------------------------- results


def test_a_result_comes_back_as_it_was_put(archive: Archive, study: Any) -> None:
    assert not archive.has_result("infer:1")
    assert archive.measured("infer:1") == Measured(None, None)
    archive.put_result("infer:1", study.result)
    assert archive.has_result("infer:1")
    found = archive.open_result("infer:1")
    assert np.array_equal(found.pixels, study.result.pixels)
    assert encode_result(found) == encode_result(study.result)
    assert archive.measured("infer:1") == Measured(None, None), "nothing was measured"


def test_the_first_result_stays_and_a_damaged_one_is_replaced(archive: Archive, study: Any) -> None:
    other = replace(study.result, pixels=study.result.pixels + 1)
    archive.put_result("infer:1", study.result)
    archive.put_result("infer:1", other)
    assert np.array_equal(archive.open_result("infer:1").pixels, study.result.pixels)
    spoil(archive, result_key("infer:1"))
    with pytest.raises(DamagedError, match="infer:1"):
        archive.open_result("infer:1")
    archive.put_result("infer:1", other)
    assert np.array_equal(archive.open_result("infer:1").pixels, other.pixels)


def test_a_result_that_is_not_there_is_told_apart_from_a_damaged_one(archive: Archive) -> None:
    with pytest.raises(MissingError, match="infer:2"):
        archive.open_result("infer:2")
    backend(archive).replace(result_key("infer:2"), b"PK\x03\x04 cut off")
    with pytest.raises(DamagedError, match="infer:2"):
        archive.open_result("infer:2")
    assert archive.measured("infer:2") == Measured(None, None)


# ---------------------------------------------------------------------- what is derived from them


DERIVED = [("2.25.2", b"first"), ("2.25.1", b"second")]


def test_what_is_derived_comes_back_in_the_order_to_be_sent(archive: Archive) -> None:
    assert archive.derived("infer:1") is None
    made = archive.put_derived("infer:1", DERIVED, "<p>report</p>")
    assert archive.derived("infer:1") == made
    assert [(m.sop_uid, archive.derived_instance(m.key, m.sha256).content()) for m in made] == DERIVED
    assert archive.page("infer:1") == b"<p>report</p>"
    assert archive.page_location("infer:1").endswith("derived/infer:1/report.html")


def test_half_of_it_counts_for_nothing_and_is_made_good(archive: Archive) -> None:
    made = archive.put_derived("infer:1", DERIVED, "")
    backend(archive).delete(index_key("infer:1"))
    spoil(archive, made[1].key, 0)
    assert archive.derived("infer:1") is None
    assert archive.put_derived("infer:1", DERIVED, "") == made
    assert all(archive.derived_instance(m.key, m.sha256).is_intact() for m in made)


def test_no_flipped_bit_of_it_goes_unnoticed(archive: Archive) -> None:
    made = archive.put_derived("infer:1", DERIVED, "")
    spoil(archive, made[0].key, 2)
    with pytest.raises(DamagedError, match=r"00000-2\.25\.2"):
        archive.derived_instance(made[0].key, made[0].sha256).content()
    index = backend(archive).read(index_key("infer:1"))
    for at in range(0, len(index), 11):
        backend(archive).replace(index_key("infer:1"), index[:at] + bytes([index[at] ^ 1]) + index[at + 1 :])
        try:
            assert archive.derived("infer:1") == made, "a space that says nothing"
        except DamagedError:
            continue


def test_what_a_version_without_digests_derived_is_read(archive: Archive) -> None:
    backend(archive).replace("derived/infer:1/00000-2.25.2.dcm", b"first")
    old = {"2.25.2": "00000-2.25.2.dcm"}
    backend(archive).replace(index_key("infer:1"), json.dumps(old).encode())
    (made,) = archive.derived("infer:1") or []
    assert (made.sop_uid, made.key, made.sha256) == ("2.25.2", "derived/infer:1/00000-2.25.2.dcm", None)
    assert archive.derived_instance(made.key, made.sha256).content() == b"first"


# ---------------------------------------------------------------------- care


def test_what_is_deleted_is_gone_with_all_below_it_and_nothing_else(archive: Archive) -> None:
    content, digest = received()
    key = archive.put_instance(*UIDS, content, digest)
    other = archive.put_instance("1.22", "1.2.3", "1.2.3.4", content, digest)
    archive.delete("instances/1.2/")
    archive.delete("instances/1.2/")
    archive.delete("results/none.npz")
    assert not archive.instance(key, digest).is_intact()
    assert archive.instance(other, digest).is_intact()
    archive.delete(other)
    assert not archive.instance(other, digest).is_intact()


def test_a_part_can_be_read_without_the_rest(archive: Archive) -> None:
    backend(archive).replace("results/a.npz", bytes(range(256)) * 1000)
    with backend(archive).open("results/a.npz") as stream:
        stream.seek(-256, 2)
        assert BytesIO(stream.read()).getvalue() == bytes(range(256))
    with pytest.raises(MissingError):
        backend(archive).open("results/b.npz")


def test_a_location_is_for_people(archive: Archive, tmp_path: Path) -> None:
    assert archive.location("results/a.npz").endswith("/results/a.npz")
    assert archive.location("results/a.npz").startswith((str(tmp_path), "s3://"))
