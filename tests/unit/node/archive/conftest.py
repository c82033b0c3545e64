"""The archive in a folder, and in a bucket of a real object store's protocol (moto's server on the loopback)."""

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from node.archive.facade import Archive
from node.archive.objects import Bucket


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """The address of an object store."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket_url(object_store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket in it, with a prefix; its credentials are in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "site")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    name = f"b{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=object_store, region_name="us-east-1").create_bucket(Bucket=name)
    return f"s3://{name}/archive"


@pytest.fixture
def bucket(bucket_url: str, object_store: str) -> Bucket:
    return Bucket(bucket_url, object_store)


@pytest.fixture(params=["folder", "bucket"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    if request.param == "folder":
        return Archive.in_folder(tmp_path / "data")
    return Archive(request.getfixturevalue("bucket"))
