"""An object store with faults: what was kept is whole, what is read is whole, and everything else is an error in one line."""

from collections import Counter
from collections.abc import Iterator
from random import Random
from urllib.parse import urlsplit

import boto3
import pytest

from node.archive.digest import Digest, sha256
from node.archive.facade import Archive
from node.archive.objects import Bucket
from node.errors import StorageError
from tests.faulty_store import FAULTS, FaultyStore


@pytest.fixture
def faulty(object_store: str) -> Iterator[FaultyStore]:
    store = FaultyStore(object_store)
    yield store
    store.close()


def test_nothing_acknowledged_is_lost_and_nothing_is_half(
    faulty: FaultyStore, bucket_url: str, object_store: str
) -> None:
    """Compared with what the store itself has, read without the node."""
    draw = Random(7)
    archive = Archive(Bucket(bucket_url, faulty.url)).within(0.7)
    place = urlsplit(bucket_url)
    client = boto3.client("s3", endpoint_url=object_store, region_name="us-east-1")
    kept: dict[str, tuple[bytes, Digest]] = {}
    outcomes: Counter[str] = Counter()
    faulty.fault = lambda: draw.choice(FAULTS) if draw.random() < 0.4 else None
    for number in range(40):
        content = draw.randbytes(draw.randint(1, 40_000))
        digest = Digest(sha256(content))
        try:
            key = archive.put_instance("1.2.3", "1.2.4", f"1.2.5.{number % 15}", content, digest)
        except StorageError as error:
            assert one_line(error)
            outcomes["not kept"] += 1
        else:
            kept[key] = (content, digest)
            outcomes["kept"] += 1
        for known, (expected, _) in draw.sample(sorted(kept.items()), min(1, len(kept))):
            try:
                assert archive._backend.read(known) == expected, "half an object was read as a whole one"
                outcomes["read"] += 1
            except StorageError as error:
                assert one_line(error)
                outcomes["not read"] += 1
    for key, (content, _) in kept.items():
        object_ = client.get_object(Bucket=place.netloc, Key=f"{place.path.strip('/')}/{key}")
        assert object_["Body"].read() == content
    assert min(outcomes[name] for name in ("kept", "not kept", "read", "not read")) > 0, outcomes


@pytest.mark.parametrize("fault", ["silent", "busy", "gateway", "closed"])
def test_who_has_no_time_hears_soon(faulty: FaultyStore, bucket_url: str, fault: str) -> None:
    bucket = Bucket(bucket_url, faulty.url).within(1)
    faulty.fault = lambda: fault
    for ask in (lambda: bucket.create("results/a.npz", b"a"), lambda: bucket.read("results/a.npz"), bucket.check):
        with pytest.raises(StorageError) as raised:
            ask()
        assert one_line(raised.value)
        faulty.fault = lambda: fault
    faulty.fault = lambda: None
    assert bucket.create("results/a.npz", b"a"), "it goes on by itself"


def test_reading_in_parts_says_what_went_wrong(faulty: FaultyStore, bucket_url: str) -> None:
    bucket = Bucket(bucket_url, faulty.url).within(1)
    content = Random(1).randbytes(3 << 20)
    bucket.create("layers/a", content)
    with bucket.open("layers/a") as stream:
        stream.seek(2 << 20)
        assert stream.read(100) == content[2 << 20 :][:100]
        faulty.fault = lambda: "gateway"
        with pytest.raises(StorageError) as raised:
            stream.seek(0)
            stream.read()
    assert one_line(raised.value)


def one_line(error: StorageError) -> bool:
    return str(error).isprintable() and error.local
