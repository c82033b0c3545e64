"""The public surfaces that damaged instances reach, each with what must hold whatever comes in.

Every `try_…` returns what became of the instance, in a word or two for the count, and raises when the node did something
that it must not: an exception that is not of the error tree, a file in the wrong place, patient data in a message.
"""

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType

import numpy as np
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, EnhancedMRImageStorage, MRImageStorage

from node.archive.facade import Archive
from node.archive.layout import InstanceName, parse_key
from node.config.match import MatchSettings
from node.config.settings import SCPSettings, Settings
from node.dicom.read import InstanceFile
from node.errors import NodeError, NotFoundError, RefusedError
from node.folder import read_folder
from node.match.assess import assess_study
from node.match.explanation import lines
from node.offline import process_folder
from node.receive.commitment_scp import Commitments
from node.receive.server import Receiver
from node.receive.store import Status, Store
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.weights import model_facts
from tests.conftest import free_port
from tests.dicom import volume_of
from tests.fuzz.corpus import SECRET, Instance, part10, stack
from tests.fuzz.mutate import SYNTAXES, Damaged, written
from tests.fuzz.peer import Peer

SOP_CLASSES = [str(MRImageStorage), str(EnhancedMRImageStorage)]

NAMED = ("fresh", "as it says", "known")

A_SENTENCE = 20_000
"""Characters; a message longer than this repeats the data it complains of."""


def presentable(text: str) -> None:
    """Whether a message may be shown and logged."""
    assert SECRET not in text, "patient data in a message"
    assert "MemoryError" not in text, "memory ran out and was taken for damage"
    assert len(text) < A_SENTENCE, "a message without end"


class Receive:
    """Instances over a real association into a real archive and tracker."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._archive = Archive.in_folder(folder / "data")
        self._database = Database(f"sqlite:///{folder / 'data' / 'tracker.sqlite3'}")
        self._database.upgrade()
        tracker = Tracker(self._database)
        store = Store(self._archive, tracker, series_quiet_s=3600)
        commitments = Commitments(tracker, self._archive, [], "DIFFMSR")
        settings = SCPSettings(host="127.0.0.1", port=free_port())
        self._receiver = Receiver(settings, [], store, commitments)
        self._peer: Peer | None = None
        self._sent = 0
        self.answers: Counter[str] = Counter()

    def __enter__(self) -> "Receive":
        self._receiver.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._peer is not None:
            self._peer.close()
        self._receiver.stop(5)
        self._database.dispose()

    def try_to_store(self, damaged: Damaged, named: str) -> str:
        """Send it under one of NAMED: a UID of its own, the UID that the data set says, however malformed that is, or the
        UID of the whole instance, which is known by now, so that the receiver has to compare the two."""
        instance, data_set = damaged.instance, damaged.data_set
        sop_uid = instance.sop_uid.encode()
        self._sent += 1
        if named != "known" and instance.transfer_syntax_uid != DeflatedExplicitVRLittleEndian:
            fresh = f"{instance.sop_uid[:-7]}{self._sent:07d}".encode()
            data_set, sop_uid = data_set.replace(sop_uid, fresh), fresh
        if named == "as it says":
            said = next((e.value for e in instance.elements if e.tag == 0x0008_0018), b"")
            sop_uid = sop_uid if said.rstrip(b"\0") == instance.sop_uid.encode() else said
        if self._peer is None:
            self._peer = Peer(self._receiver.port, [(c, s) for c in SOP_CLASSES for s in SYNTAXES])
        syntax = instance.transfer_syntax_uid
        status = self._peer.store(instance.sop_class_uid, syntax, sop_uid, data_set)
        if status is None:
            self._peer.close()
            self._peer = None
            self.answers["aborted"] += 1
            return "aborted"
        self.answers[Status(status).name] += 1
        if status == Status.SUCCESS:
            self._kept(sop_uid.decode().strip("\0 "))
        return Status(status).name.lower().replace("_", " ")

    def _kept(self, sop_uid: str) -> None:
        """What was acknowledged can be read again, as far as matching needs it."""
        paths = list((self._folder / "data").glob(f"instances/*/*/{sop_uid}.dcm"))
        assert paths, "it is kept"
        for path in paths:  # in more than one study, when the damage is in its UID
            presentable(str(path))
            InstanceFile(path).read_header()

    def judge(self) -> None:
        """After all: the receiver lives, and the archive holds what was acknowledged, where it belongs."""
        with Peer(self._receiver.port, [("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1")])._socket:
            pass
        ours = ("tracker.sqlite3", "node-id", "process.lock")
        files = {p for p in self._folder.rglob("*") if p.is_file() and not p.name.startswith(ours)}
        for path in files:
            assert isinstance(parse_key(path.relative_to(self._folder / "data").as_posix()), InstanceName), path
        with closing(sqlite3.connect(self._folder / "data" / "tracker.sqlite3")) as tracker:
            keys = [
                key for (key,) in tracker.execute("SELECT key FROM instance")
            ]  # corrected ones have several versions
        assert set(keys) == {path.relative_to(self._folder / "data").as_posix() for path in files}
        assert len(files) <= self.answers["SUCCESS"]


class Study:
    """A folder with a small whole study, some instances of which are damaged for each try."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._settings = Settings()
        self._facts = model_facts(self._settings)
        self.instances = stack()
        self._paths = [folder / "in" / f"{n}.dcm" for n in range(len(self.instances))]
        self._paths[0].parent.mkdir()
        for path, instance in zip(self._paths, self.instances, strict=True):
            path.write_bytes(part10(instance, instance.data_set()))
        self._headers = {index: InstanceFile(path).read_header() for index, path in enumerate(self._paths)}

    def _write(self, damaged: Sequence[tuple[int, Damaged]]) -> dict[int, bytes]:
        whole = {}
        for index, one in damaged:
            path = self._paths[index]
            whole.setdefault(index, path.read_bytes())
            path.write_bytes(part10(one.instance, one.data_set))
        return whole

    def _mend(self, whole: dict[int, bytes]) -> None:
        for index, content in whole.items():
            self._paths[index].write_bytes(content)

    def try_to_match(self, damaged: Sequence[tuple[int, Damaged]]) -> str:
        whole = self._write(damaged)
        try:
            headers = [header for index, header in self._headers.items() if index not in whole]
            for index in whole:
                try:
                    headers.append(InstanceFile(self._paths[index]).read_header())
                except NodeError as error:
                    presentable(str(error))
            verdict = assess_study(headers, MatchSettings(), self._facts)
        finally:
            self._mend(whole)
        json.dumps(verdict.to_json(), allow_nan=False)
        for line in lines(verdict, width=80):
            presentable(line)
        return f"{verdict.outcome} {verdict.code or ''}".strip()

    def try_to_read(self, damaged: Damaged) -> str:
        """One instance on its own, as the stack it may be."""
        path = self._folder / "one.dcm"
        path.write_bytes(part10(damaged.instance, damaged.data_set))
        try:
            volume = volume_of([path])
        except NodeError as error:
            presentable(str(error))
            return error.code if isinstance(error, RefusedError) else type(error).__name__
        assert volume.pixels.dtype == np.float32
        assert np.isfinite(volume.pixels).all() and np.isfinite(volume.positions).all()
        return "read"

    def try_to_process(self, damaged: Sequence[tuple[int, Damaged]]) -> str:
        whole = self._write(damaged)
        out = self._folder / "out"
        try:
            found = read_folder(self._paths[0].parent)
            done = list(process_folder(found, out, self._settings, lambda *_: None))
        except NotFoundError:
            return "nothing found"
        finally:
            self._mend(whole)
        for one in done:
            presentable(one.sentence)
            assert one.state in ("done", "refused", "failed")
        made = [path for path in out.rglob("*") if path.is_file()]
        assert bool(made) == any(one.state == "done" for one in done), "something half done"
        for path in made:
            if path.suffix == ".dcm":
                presentable(str(dcmread(path).get("DerivationDescription")))
        shutil.rmtree(out, ignore_errors=True)
        return ", ".join(sorted({f"{one.state} {one.code or ''}".strip() for one in done}))


def warm_up(receive: Receive, study: Study, instances: Sequence[Instance]) -> None:
    """Whole instances first: everything is imported, and what a study takes in memory is known."""
    for instance in instances:
        whole = Damaged(instance, (), written(instance))
        for named in NAMED:
            assert receive.try_to_store(whole, named) == "success", instance.name
        study.try_to_read(whole)
    assert study.try_to_match([]).startswith("paired")
    assert study.try_to_process([]) == "done"
