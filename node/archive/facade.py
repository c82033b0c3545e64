"""The one way to everything durable that is not a row: instances as received, results, what is derived from them.

Bytes that are read for use are compared with their digest first. Bytes that changed on the disk raise DamagedError, and
bytes that are gone raise MissingError. Neither is ever retried, and nothing is made from such bytes.

What decodes them is loaded at the first use: most commands read rows alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from node.archive.backend import Backend
from node.archive.digest import Digest, sha256
from node.archive.index import DerivedInstance, Index, decode_index, encode_index
from node.archive.layout import (
    FOLDERS,
    OWNER_KEY,
    derived_key,
    derived_prefix,
    index_key,
    instance_key,
    layers_key,
    page_key,
    result_key,
)
from node.archive.local import LocalFolder
from node.archive.log import Log, LogEntry
from node.archive.objects import Bucket
from node.archive.segment import Record
from node.config.settings import Settings
from node.errors import DamagedError, LostError, MissingError

if TYPE_CHECKING:
    from pydicom import Dataset

    from node.archive.codec import Measured
    from node.archive.layers import LayersFile
    from node.result import Result

_WRITERS = 4
"""So many derived instances become durable at the same time."""


@dataclass(frozen=True)
class StoredInstance:
    """An instance in the archive, to be read like a file. Each reading compares it with its digest."""

    key: str
    digest: Digest
    backend: Backend = field(repr=False, compare=False)

    def content(self) -> bytes:
        """The Part 10 file. DamagedError, MissingError, StorageError."""
        try:
            content = self.backend.read(self.key)
        except MissingError:
            content = self._logged() or self.backend.read(self.key)  # it may have got its file between the two
        if not self.digest.holds(content):
            raise DamagedError(self.backend.location(self.key))
        return content

    def _logged(self) -> bytes | None:
        """The content while it is in a log of arrivals and has no file yet."""
        return None if self.digest.sha256 is None else self.backend.read_logged(self.key, self.digest.sha256)

    def read_header(self) -> "Dataset":
        """The data set without its pixels. Also raises DamagedFileError when the instance was already unreadable
        when it was kept."""
        return self._read(stop_before_pixels=True)

    def read_instance(self) -> "Dataset":
        """The data set. Raises as `read_header`."""
        return self._read(stop_before_pixels=False)

    def _read(self, *, stop_before_pixels: bool) -> "Dataset":
        from node.dicom.read import read_part10

        return read_part10(BytesIO(self.content()), self, stop_before_pixels=stop_before_pixels)

    def is_intact(self) -> bool:
        """Whether it is there, and what was kept. StorageError when that cannot be found out now."""
        try:
            self.content()
        except LostError:
            return False
        return True

    def __str__(self) -> str:
        return self.backend.location(self.key)


class Archive:
    """Instances, results and derived instances, by key (`layout.py`)."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @classmethod
    def in_folder(
        cls, folder: Path, reserve_gb: float = 0.0, home: Path | None = None, *, make: bool = True
    ) -> "Archive":
        """The archive in a folder; `home` is the node's own folder, where several nodes share this one. `make` creates it
        where it is missing."""
        return cls(LocalFolder(folder, FOLDERS, reserve_gb, home, make=make))

    @classmethod
    def of(cls, settings: Settings, *, make: bool = True) -> "Archive":
        """The archive that the configuration names: a folder, or a bucket. `make` creates a folder where it is missing;
        commands that only read leave that to the service. ConfigError when it cannot be used."""
        place, folder = settings.storage.archive, settings.archive_folder
        if place is not None and folder is None:
            return cls(Bucket(place, settings.storage.endpoint_url))
        home = settings.node.data_dir
        return cls.in_folder(folder or home, settings.storage.reserve_gb, home=home, make=make)

    def within(self, patience_s: float) -> "Archive":
        """The same archive, for somebody who waits so long at most for what is done over a network."""
        return Archive(self._backend.within(patience_s))

    # ------------------------------------------------------------------ instances as received

    def put_instance(self, study_uid: str, series_uid: str, sop_uid: str, content: bytes, digest: Digest) -> str:
        """Keep a received Part 10 file; returns its key. Content that another row may name is never
        overwritten: when other content has the usual key, this content gets a key of its own. Raises StorageFullError before anything is written
        when the disk is below its reserve, StorageError on any other failure."""
        usual = instance_key(study_uid, series_uid, sop_uid)
        own = instance_key(study_uid, series_uid, sop_uid, digest.sha256)
        for key in (usual, own):
            if self._backend.create(key, content) or self.instance(key, digest).is_intact():
                return key
        self._backend.replace(own, content)  # it names this content, and holds it damaged
        return own

    def instance(self, key: str, digest: Digest) -> StoredInstance:
        """What `put_instance` kept under the key."""
        return StoredInstance(key, digest, self._backend)

    def instance_keys(self, before: datetime) -> Iterator[tuple[str, list[str]]]:
        """Each study that has instances, with the keys of those that were kept before that time. StorageError."""
        return self._backend.instance_keys(before)

    def content(self, key: str) -> bytes:
        """What is kept under a key whose digest nobody knows. MissingError, StorageError."""
        return self._backend.read(key)

    def open_log(self) -> Log | None:
        """The log of this process, which keeps instances until `settle` gives them files; None where the archive has no
        log, because each put is durable at once. What is in a log is read like what is in a file. StorageError."""
        return self._backend.open_log()

    def settle(self, entries: Sequence[LogEntry], current: Callable[[Sequence[LogEntry]], set[str]]) -> None:
        """Give entries of the log files of their own, durable when this returns. `current` returns those of the
        keys that are still wanted. It is called before and after the files are written. StorageError."""
        self._backend.settle(entries, current)

    def leftovers(self) -> Iterator[tuple[Record, bytes | None]]:
        """What the logs of dead processes of this node hold: each record with its Part 10 file, None when that is damaged.
        A log is removed once all its records were taken. StorageError."""
        return self._backend.leftovers()

    # ------------------------------------------------------------------ results

    def put_result(self, name: str, result: "Result") -> None:
        """Keep a super-resolved volume. The first one kept under a name stays, as long as it is intact."""
        from node.archive.codec import encode_result

        content = encode_result(result)
        if self._backend.create(result_key(name), content):
            return
        try:
            self.open_result(name)
        except LostError:
            self._backend.replace(result_key(name), content)

    def open_result(self, name: str) -> "Result":
        """What `put_result` kept. DamagedError, MissingError, StorageError."""
        from node.archive.codec import decode_result

        content = self._backend.read(result_key(name))
        try:
            return decode_result(content)
        except ValueError:
            raise DamagedError(self._backend.location(result_key(name))) from None

    def measured(self, name: str) -> "Measured":
        """What was measured of a result, without reading its pixels; nothing when the result is lost."""
        from node.archive.codec import Measured, decode_measured

        try:
            with self._backend.open(result_key(name)) as stream:
                return decode_measured(stream)
        except (LostError, ValueError):
            return Measured(None, None)

    def has_result(self, name: str) -> bool:
        return self._backend.exists(result_key(name))

    def put_layers(self, name: str, content: bytes) -> None:
        """Keep what the viewer shows of the result `name`, a layers file."""
        self._backend.replace(layers_key(name), content)

    def has_layers(self, name: str) -> bool:
        return self._backend.exists(layers_key(name))

    @contextmanager
    def layers(self, name: str) -> Iterator["LayersFile"]:
        """What the viewer shows of the result `name`, open for reading. DamagedError, also when a slice that is read is
        missing in the file or does not match its digest; MissingError, StorageError."""
        from node.archive.layers import open_layers

        with self._backend.open(layers_key(name)) as file:
            try:
                yield open_layers(file)
            except ValueError:
                raise DamagedError(self._backend.location(layers_key(name))) from None

    # ------------------------------------------------------------------ what is made of a result

    def put_derived(
        self, name: str, instances: Iterable[tuple[str, bytes]], page: str, codes: Iterable[str] = ()
    ) -> list[DerivedInstance]:
        """Keep what was made of the result `name`: (SOP instance UID, Part 10 file) in the order to be sent, the report's
        page, and the codes of the warnings that making it gave. It counts only when all of it is there. While the first
        instances become durable, the next ones are made."""

        def put(numbered: tuple[int, tuple[str, bytes]]) -> DerivedInstance:
            number, (sop_uid, content) = numbered
            instance = DerivedInstance(sop_uid, derived_key(name, number, sop_uid), sha256(content))
            kept = self.derived_instance(instance.key, instance.sha256)
            if not self._backend.create(instance.key, content) and not kept.is_intact():
                self._backend.replace(instance.key, content)
            return instance

        self._backend.replace(page_key(name), page.encode())
        with ThreadPoolExecutor(_WRITERS, thread_name_prefix="derived") as writers:
            made = list(writers.map(put, enumerate(instances)))
        self._backend.replace(index_key(name), encode_index(made, codes))
        return made

    def derived(self, name: str) -> list[DerivedInstance] | None:
        """What `put_derived` kept, in the order to be sent; None when it was not made yet, or not to the end."""
        found = self._index(name)
        return None if found is None else found.instances

    def derived_codes(self, name: str) -> frozenset[str]:
        """The codes of the warnings that came with what `put_derived` kept."""
        found = self._index(name)
        return frozenset() if found is None else found.codes

    def _index(self, name: str) -> Index | None:
        if not self._backend.exists(index_key(name)):
            return None
        content = self._backend.read(index_key(name))
        try:
            return decode_index(content, derived_prefix(name))
        except ValueError:
            raise DamagedError(self._backend.location(index_key(name))) from None

    def adopt_derived(self, name: str) -> list[DerivedInstance] | None:
        """As `derived`. Where a version without digests made the instances, their digests are computed and kept, and
        compared from then on."""
        made = self.derived(name)
        if made is None or all(instance.sha256 is not None for instance in made):
            return made
        made = [replace(instance, sha256=sha256(self._backend.read(instance.key))) for instance in made]
        self._backend.replace(index_key(name), encode_index(made))
        return made

    def derived_instance(self, key: str, sha256: str | None) -> StoredInstance:
        """A derived instance, to be read."""
        return StoredInstance(key, Digest(sha256), self._backend)

    def page(self, name: str) -> bytes:
        """The report on the result `name`, as HTML. MissingError when it was not made yet."""
        return self._backend.read(page_key(name))

    def has_page(self, name: str) -> bool:
        return self._backend.exists(page_key(name))

    def page_location(self, name: str) -> str:
        """Where a person finds that page."""
        return self._backend.location(page_key(name))

    # ------------------------------------------------------------------ care

    def owner(self) -> str | None:
        """The tracker whose archive this is; None before one has used it. StorageError."""
        try:
            return self._backend.read(OWNER_KEY).decode(errors="replace").strip()
        except MissingError:
            return None

    def belong_to(self, tracker: str, *, instead: bool = False) -> None:
        """Make it the archive of a tracker. What belongs to one already stays so, unless this one comes `instead`."""
        content = f"{tracker}\n".encode()
        if instead:
            self._backend.replace(OWNER_KEY, content)
        else:
            self._backend.create(OWNER_KEY, content)

    def location(self, key: str) -> str:
        """Where a person finds what is kept under the key: a path, or an address. Only for display."""
        return self._backend.location(key)

    def delete(self, prefix: str) -> None:
        """Remove a key, or every key that begins with a prefix that ends with a slash. It is not an error when there is
        nothing."""
        self._backend.delete(prefix)

    def discard_incoming(self) -> int:
        """Remove temporary files that a crash of this node left behind; none of them was ever acknowledged. Returns how
        many. What other nodes are writing stays."""
        return self._backend.discard_incoming()

    def close(self) -> None:
        """Release what this process holds. Nothing may be written afterwards."""
        self._backend.close()

    def check(self) -> None:
        """Raise StorageError when the archive cannot be used."""
        self._backend.check()

    def usage(self) -> tuple[int, int] | None:
        """Bytes of the disk that are in use, and of all of it; None where that cannot be known."""
        return self._backend.usage()

    def check_space(self, for_results: bool = False) -> None:
        """Raise StorageFullError when the disk has less than the reserve left; of that, results of what was received
        already may use half."""
        self._backend.check_space(for_results)
