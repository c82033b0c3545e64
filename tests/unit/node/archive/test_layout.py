"""Keys: what they say can be read back, and none leaves the archive."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.archive.layout import (
    DerivedName,
    InstanceName,
    derived_key,
    index_key,
    instance_key,
    page_key,
    parse_key,
    result_key,
)
from node.dicom.uid import is_uid
from node.errors import StorageError

uids = st.lists(st.integers(0, 10**9), min_size=1, max_size=6).map(lambda parts: ".".join(map(str, parts)))
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
names = st.from_regex(r"infer:[0-9a-f]{32}", fullmatch=True)


@given(uids, uids, uids, st.none() | digests)
def test_the_key_of_an_instance_says_what_it_was_made_of(study: str, series: str, sop: str, sha256: str | None) -> None:
    key = instance_key(study, series, sop, sha256)
    assert parse_key(key) == InstanceName(study, series, sop, None if sha256 is None else sha256[:16])
    assert stays_inside(key)


@given(names, st.integers(0, 10**6), uids)
def test_the_key_of_a_derived_instance_says_what_it_was_made_of(name: str, number: int, sop: str) -> None:
    assert parse_key(derived_key(name, number, sop)) == DerivedName(name, number, sop)


@given(names, st.lists(st.integers(0, 99_999), min_size=2, max_size=2, unique=True), uids, uids)
def test_derived_keys_sort_as_they_are_sent(name: str, numbers: list[int], one: str, other: str) -> None:
    first, second = sorted(numbers)
    assert derived_key(name, first, one) < derived_key(name, second, other)


@given(st.text(), st.text(), st.text())
def test_whatever_is_no_uid_is_no_part_of_a_key(study: str, series: str, sop: str) -> None:
    if not all(map(is_uid, (study, series, sop))):
        with pytest.raises(StorageError, match="UID"):
            instance_key(study, series, sop)


@given(st.text())
def test_no_key_leaves_the_archive(text: str) -> None:
    for make in (result_key, index_key, page_key):
        try:
            key = make(text)
        except StorageError:
            continue
        assert stays_inside(key)


def stays_inside(key: str) -> bool:
    """Whether a key is a relative path that climbs nowhere."""
    path = PurePosixPath(key)
    return not path.is_absolute() and len(path.parts) > 1 and all(part[0] != "." for part in path.parts)


@given(st.text())
def test_what_is_no_key_says_nothing(text: str) -> None:
    found = parse_key(text)
    assert found is None or stays_inside(text)


@pytest.mark.parametrize(
    "key",
    ["", "instances", "/instances/1/2/3.dcm", "instances/../2/3.dcm", "instances//2/3.dcm", "other/1", "results/.x"],
)
def test_what_is_no_key_is_told_apart(key: str) -> None:
    assert parse_key(key) is None


@given(st.text())
def test_no_text_but_a_uid_can_name_a_file(text: str) -> None:
    if is_uid(text):
        assert set(text) <= set("0123456789.")
        assert ".." not in text
        assert not text.startswith(".")
        assert 1 <= len(text) <= 64
