"""Durable objects in a bucket of S3, or of a store that speaks its protocol. A put is atomic there, and shared by nature.

Credentials come from where every S3 client looks for them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the file
that AWS_SHARED_CREDENTIALS_FILE names, or the identity of the machine. None is ever in the configuration.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from copy import copy
from datetime import datetime
from functools import partial
from io import BufferedReader, RawIOBase
from itertools import groupby
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from node.errors import ConfigError, MissingError, StorageError

_TIMEOUTS = {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 3, "mode": "standard"}}
_PATIENCE_S = 120.0
"""How long one request may take with all its repetitions. Sending or reading adds to it by its size."""
_BYTES_PER_S = 4e6
"""A store that is slower than this counts as away."""
_BLOCK = 1 << 20
"""Bytes that are read at least of an object that is read in parts."""
_CHECK_S = 10.0
"""Those who ask whether it is there at all want to know soon."""
_LISTING_S = 3600.0
"""A listing is many requests, one per thousand keys."""
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


class Bucket:
    """Things kept by key, as objects of a bucket below a prefix."""

    def __init__(self, url: str, endpoint_url: str | None) -> None:
        """`url` is s3://BUCKET/PREFIX. The endpoint has no default: no patient's images go to a provider that nobody
        named."""
        named = endpoint_url or next((os.environ[v] for v in _ENDPOINT_VARIABLES if os.environ.get(v)), None)
        if named is None:
            raise ConfigError(
                f"[storage] archive = {url} needs [storage] endpoint_url, such as https://s3.eu-central-1.amazonaws.com"
            )
        place = urlsplit(url)
        if place.scheme != "s3" or not place.netloc:
            raise ConfigError(f"[storage] archive = {url}: an object store is named s3://BUCKET or s3://BUCKET/PREFIX")
        self._folder = "/".join([place.netloc, *place.path.split("/")]).replace("//", "/").rstrip("/")
        try:
            from s3fs import S3FileSystem
        except ModuleNotFoundError:
            raise ConfigError(
                "[storage] archive names an object store: pip install 'diffmsr-node[s3]' brings what reads and writes it"
            ) from None
        self._store: Any = S3FileSystem(endpoint_url=named, use_listings_cache=False, config_kwargs=_TIMEOUTS)
        self._patience_s = _PATIENCE_S

    def within(self, patience_s: float) -> "Bucket":
        """The same bucket, for somebody who waits so long at most for each request."""
        hurried = copy(self)
        hurried._patience_s = patience_s
        return hurried

    def location(self, key: str) -> str:
        """Where a person finds what is kept under the key."""
        return f"s3://{self._folder}/{key}"

    def create(self, key: str, content: bytes) -> bool:
        """Keep something new. False when there is something under the key already, which stays as it is: so a put that
        is repeated because its answer was lost changes nothing."""
        try:
            self._put(key, content, "create")
        except FileExistsError:
            return False
        return True

    def replace(self, key: str, content: bytes) -> None:
        """Keep something, instead of what is there."""
        self._put(key, content, "overwrite")

    def read(self, key: str) -> bytes:
        """What is kept under the key. MissingError when there is nothing, StorageError when it cannot be read."""
        content: bytes = self._find(key, self._store._cat_file)
        return content

    def open(self, key: str) -> BinaryIO:
        """The same as a stream, to read a part of it. Reading raises StorageError, too."""
        size = self._find(key, self._store._info)["size"]
        return BufferedReader(_Stream(partial(self._part, key), size), _BLOCK)

    def _part(self, key: str, start: int, end: int) -> bytes:
        part: bytes = self._find(key, partial(self._store._cat_file, start=start, end=end))
        return part

    def exists(self, key: str) -> bool:
        return bool(self._ask(key, "find", self._store._exists))

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key that begins with the prefix, which ends with a slash."""
        found = self._ask(prefix, "list", self._store._find, _LISTING_S)
        for path in sorted(found):
            yield path.removeprefix(f"{self._folder}/")

    def instance_keys(self, before: datetime) -> Iterator[tuple[str, list[str]]]:
        """Each study, with the keys of its objects that are older than that."""
        found = self._ask("instances/", "list", partial(self._store._find, detail=True), _LISTING_S)
        old = sorted(path for path, facts in found.items() if facts["LastModified"] < before)
        keys = [path.removeprefix(f"{self._folder}/") for path in old]
        for study_uid, of_study in groupby(keys, key=lambda key: key.split("/")[1]):
            yield study_uid, list(of_study)

    def delete(self, prefix: str) -> None:
        """Remove a key, or every key that begins with a prefix that ends with a slash. It is not an error when there is
        nothing."""
        keys = list(self.keys(prefix)) if prefix.endswith("/") else [prefix]
        for key in keys:
            with suppress(FileNotFoundError):
                self._ask(key, "remove", self._store._rm_file)

    def check(self) -> None:
        """Raise StorageError when nothing can be kept here."""
        if not self._has_bucket():
            raise self._no_bucket()

    def _has_bucket(self) -> bool:
        name = self._folder.split("/")[0]
        return bool(self._ask("", "find", lambda _: self._store._exists(name), min(self._patience_s, _CHECK_S)))

    def check_space(self, for_results: bool = False) -> None:
        """A bucket has no reserve to keep."""

    def usage(self) -> None:
        """A bucket does not say how full it is."""

    def discard_incoming(self) -> int:
        """A bucket has no half-written objects."""
        return 0

    def open_log(self) -> None:
        """A bucket needs no log: an object is durable with one request."""

    def read_logged(self, key: str, sha256: str) -> None:
        """There is no log."""

    def settle(self, entries: object, current: object) -> None:
        """There is nothing to settle."""

    def leftovers(self) -> Iterator[Any]:
        """There is nothing left."""
        return iter(())

    def close(self) -> None:
        """Connections are closed by the process's end."""

    def _put(self, key: str, content: bytes, mode: str) -> None:
        patience_s = self._patience_s + len(content) / _BYTES_PER_S
        try:
            self._ask(key, "write", lambda path: self._store._pipe_file(path, content, mode=mode), patience_s)
        except FileNotFoundError:  # of the bucket: an object is written whether or not there is one
            raise self._no_bucket() from None

    def _no_bucket(self) -> StorageError:
        return StorageError(f"there is no bucket {self._folder.split('/')[0]}; see [storage] archive")

    def _find(self, key: str, call: Callable[[str], Coroutine[Any, Any, Any]]) -> Any:
        try:
            return self._ask(key, "read", call)
        except FileNotFoundError:
            # A missing bucket gives the same answer, but it is a mistake in the configuration, not a loss.
            if not self._has_bucket():
                raise self._no_bucket() from None
            raise MissingError(self.location(key)) from None

    def _ask(
        self, key: str, what: str, call: Callable[[str], Coroutine[Any, Any, Any]], patience_s: float | None = None
    ) -> Any:
        """The answer of the store. StorageError for every error of its client, except those that say whether something
        exists. The texts of the client quote keys and addresses, never content or credentials. A request that takes too
        long is given up, with what it holds."""
        asked = asyncio.run_coroutine_threadsafe(call(f"{self._folder}/{key}"), self._store.loop)
        try:
            return asked.result(self._patience_s if patience_s is None else patience_s)
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:  # the client raises kinds of its own for the network, for credentials, for answers
            asked.cancel()
            said = (str(error).strip().splitlines() or [""])[0] or "it does not answer in time"
            raise StorageError(f"cannot {what} {self.location(key)}: {type(error).__name__}: {said}") from None


class _Stream(RawIOBase):
    """An object that is read in parts, as they are wanted."""

    def __init__(self, part: Callable[[int, int], bytes], size: int) -> None:
        self._part, self._size, self._at = part, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        content = self._part(self._at, end) if end > self._at else b""
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at
