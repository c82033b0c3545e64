"""A bucket as archive: conditional puts, and what is said when the store cannot be used."""

from pathlib import Path
from unittest.mock import patch

import pytest

from node.archive.facade import Archive
from node.archive.objects import Bucket
from node.config.settings import NodeSettings, Settings, StorageSettings
from node.errors import ConfigError, MissingError, StorageError
from tests.unit.node.archive.test_archive import UIDS, received

PARTS = 50 << 20  # what s3fs sends in one piece


def test_the_configuration_names_a_bucket(bucket_url: str, object_store: str, tmp_path: Path) -> None:
    storage = StorageSettings(archive=bucket_url, endpoint_url=object_store)
    settings = Settings(node=NodeSettings(data_dir=tmp_path), storage=storage)
    content, digest = received()
    key = Archive.of(settings).put_instance(*UIDS, content, digest)
    assert Archive.of(settings).instance(key, digest).content() == content
    assert list(tmp_path.iterdir()) == [], "nothing is kept in the data folder"
    assert Archive.of(settings).location(key) == f"{bucket_url}/{key}"


def test_a_put_that_is_repeated_because_its_answer_was_lost_is_harmless(bucket: Bucket) -> None:
    assert bucket.create("results/a.npz", b"first")
    assert not bucket.create("results/a.npz", b"first")
    assert not bucket.create("results/a.npz", b"second")
    assert bucket.read("results/a.npz") == b"first"
    bucket.replace("results/a.npz", b"second")
    assert bucket.read("results/a.npz") == b"second"


def test_what_is_sent_in_parts_is_created_once_too(bucket: Bucket) -> None:
    large = bytes(2 * PARTS)
    assert bucket.create("results/a.npz", large)
    assert not bucket.create("results/a.npz", large)
    assert bucket.read("results/a.npz") == large


def test_two_prefixes_of_a_bucket_are_two_archives(bucket_url: str, object_store: str) -> None:
    one, other = (Bucket(url, object_store) for url in (bucket_url, bucket_url + "-2"))
    one.create("results/a.npz", b"a")
    assert not other.exists("results/a.npz")
    assert list(other.keys("results/")) == []
    assert list(one.keys("results/")) == ["results/a.npz"]
    one.delete("results/")
    assert list(one.keys("results/")) == []


def test_a_store_that_nobody_named_gets_nothing(bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    with pytest.raises(ConfigError, match=r"\[storage\] endpoint_url"):
        Bucket(bucket_url, None)


def test_the_environment_may_name_the_store(
    bucket_url: str, object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store)
    assert Bucket(bucket_url, None).create("results/a.npz", b"a")


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix"])
def test_an_address_without_a_bucket_is_a_mistake(url: str, object_store: str) -> None:
    with pytest.raises(ConfigError, match="s3://BUCKET"):
        Bucket(url, object_store)


def test_without_the_client_the_remedy_is_named(bucket_url: str, object_store: str) -> None:
    with patch.dict("sys.modules", {"s3fs": None}), pytest.raises(ConfigError, match=r"diffmsr-node\[s3\]"):
        Bucket(bucket_url, object_store)


def test_a_bucket_that_is_not_there_has_lost_nothing(bucket: Bucket, bucket_url: str, object_store: str) -> None:
    with pytest.raises(MissingError):
        bucket.read("results/a.npz")
    elsewhere = Bucket("s3://no-such-bucket/archive", object_store)
    for ask in (lambda: elsewhere.read("results/a.npz"), lambda: elsewhere.create("results/a.npz", b"a")):
        with pytest.raises(StorageError) as caught:
            ask()
        assert caught.value.retryable


def test_a_store_that_does_not_answer_is_asked_again_later(
    bucket_url: str, object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = object_store.rsplit(":", 1)[1]
    nobody = Bucket(bucket_url, object_store.replace(port, "1"))
    with pytest.raises(StorageError, match=r"cannot read s3://.*/archive/results/a.npz") as caught:
        nobody.read("results/a.npz")
    assert caught.value.retryable
    assert "secret" not in str(caught.value)


def test_credentials_have_no_place_in_the_configuration() -> None:
    with pytest.raises(ValueError, match="must not hold a user or a password"):
        StorageSettings(archive="s3://b", endpoint_url="https://key:secret@store.example")
    with pytest.raises(ValueError, match="a folder, or s3://"):
        StorageSettings(archive="gs://b")
