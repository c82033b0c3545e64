"""Durable files: the instances received, the super-resolved volumes, the derived instances."""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np

from node.archive.local import _writing
from node.dicom.uid import is_uid
from node.errors import ConfigError, StorageError, StorageFullError
from node.result import Quality, Registration, Result


class Archive:
    """The folder `data_dir`: instances/STUDY/SERIES/SOP.dcm, results/KEY.npz, derived/KEY/NUMBER-SOP.dcm
    and derived/KEY/report.html."""

    def __init__(self, data_dir: Path, reserve_gb: float = 0.0) -> None:
        self.root = data_dir
        self._reserve_bytes = int(reserve_gb * 1e9)
        try:
            for folder in ("instances", "results", "derived", "incoming"):
                (data_dir / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"[node] data_dir: cannot make {error.filename}: {error.strerror}") from None

    def put_instance(self, study_uid: str, series_uid: str, sop_uid: str, content: bytes) -> Path:
        """Keep a received Part 10 file; returns its path. Raises StorageFullError before anything is written when the
        disk is below its reserve, StorageError on any other failure. Putting the same UID again replaces the file
        atomically: the tracker decides beforehand whether it may."""
        for uid in (study_uid, series_uid, sop_uid):
            if not is_uid(uid):
                raise StorageError("not a valid UID, so not usable as a file name")
        return self._put(self.root / "instances" / study_uid / series_uid / f"{sop_uid}.dcm", content)

    def put_derived(self, key: str, instances: Iterable[tuple[str, bytes]], page: str) -> dict[str, Path]:
        """Keep what was made of the result `key`: (SOP instance UID, Part 10 file) in the order to be sent, and the
        report's page. The files sort by name as they are to be sent, and count only when the last of them is there."""
        folder = self.derived_folder(key)
        self._put(self.report_page(key), page.encode())
        paths = {uid: self._put(folder / f"{n:05d}-{uid}.dcm", content) for n, (uid, content) in enumerate(instances)}
        self._put(folder / "index.json", json.dumps({uid: path.name for uid, path in paths.items()}).encode())
        return paths

    def derived(self, key: str) -> dict[str, Path] | None:
        """What `put_derived` kept, in the order to be sent; None when it was not made yet, or not to the end."""
        folder = self.derived_folder(key)
        try:
            index: dict[str, str] = json.loads((folder / "index.json").read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StorageError(f"the index of {folder} cannot be read: {error}") from None
        return {uid: folder / name for uid, name in index.items()}

    def derived_folder(self, key: str) -> Path:
        return self.root / "derived" / key

    def report_page(self, key: str) -> Path:
        """Where the report on the result `key` lies, as HTML, when it was made."""
        return self.derived_folder(key) / "report.html"

    def put_result(self, key: str, result: Result) -> Path:
        """Keep a super-resolved volume under `key`; returns its path."""
        facts = {k: v for k, v in asdict(result).items() if k not in ("pixels", "positions")}
        with self._writing(self._result_path(key)) as file:
            np.savez(file, pixels=result.pixels, positions=result.positions, facts=np.array(json.dumps(facts)))
        return self._result_path(key)

    def open_result(self, key: str) -> Result:
        """Read back what `put_result` kept; StorageError when it is missing or damaged."""
        try:
            with np.load(self._result_path(key), allow_pickle=False) as file:
                facts = json.loads(str(file["facts"]))
                row, column = facts.pop("orientation")
                spacing = facts.pop("spacing")
                quality = facts.pop("quality")
                return Result(
                    pixels=file["pixels"],
                    positions=file["positions"],
                    orientation=(tuple(row), tuple(column)),
                    spacing=(spacing[0], spacing[1]),
                    quality=None if quality is None else _quality(quality),
                    **facts,
                )
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise StorageError(f"the result {key} cannot be read: {error}") from None

    def quality(self, key: str) -> Quality | None:
        """What was measured of a kept result, without reading its pixels; None when nothing was, or it is gone."""
        try:
            with np.load(self._result_path(key), allow_pickle=False) as file:
                quality = json.loads(str(file["facts"]))["quality"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None
        return None if quality is None else _quality(quality)

    def has_result(self, key: str) -> bool:
        return self._result_path(key).is_file()

    def discard_incoming(self) -> int:
        """Remove temporary files a crash left behind; none of them was ever acknowledged. Returns how many."""
        left = list((self.root / "incoming").iterdir())
        for file in left:
            file.unlink(missing_ok=True)
        return len(left)

    def check_space(self) -> None:
        """Raise StorageFullError when the disk has less than the reserve left."""
        free = shutil.disk_usage(self.root).free
        if free < self._reserve_bytes:
            raise StorageFullError(
                f"{free / 1e9:.1f} GB left under {self.root}, below [storage] reserve_gb = {self._reserve_bytes / 1e9:g}; "
                "free some space, or lower the reserve"
            )

    def _result_path(self, key: str) -> Path:
        return self.root / "results" / f"{key}.npz"

    def _put(self, path: Path, content: bytes) -> Path:
        with self._writing(path) as file:
            file.write(content)
        return path

    @contextmanager
    def _writing(self, path: Path) -> Iterator[IO[bytes]]:
        self.check_space()
        with _writing(path, self.root / "incoming") as file:
            yield file


def _quality(facts: dict[str, Any]) -> Quality:
    registration = facts.pop("registration")
    if registration is not None:
        along_row, along_column = registration.pop("shift_mm")
        registration = Registration(shift_mm=(along_row, along_column), **registration)
    return Quality(registration=registration, **facts)
