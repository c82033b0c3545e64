"""A scanner, dcmtk's storescu, that knows which of its instances were acknowledged, and sends the others again."""

import hashlib
import subprocess
import threading
from collections import Counter
from pathlib import Path

from pydicom import dcmread

from tests.conftest import require
from tests.dicom import study, write

_SENDING, _ACKNOWLEDGED = "I: Sending file: ", "I: Received Store Response (Success)"
PUSHED_BACK = {"Rejected Transient": "rejected for a while", "OutOfResources": "answered 0xA700"}
"""What storescu says of a node that has no room, and how we count it."""


class SentStudy:
    """A study on the scanner's disk, sent until all of it is acknowledged."""

    def __init__(self, folder: Path, slices: int) -> None:
        t2, t1 = study(slices)
        self.study_uid = str(t2[0].StudyInstanceUID)
        self.paths = [*write(t2, folder / "t2"), *write(t1, folder / "t1")]
        self.digests = {
            str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): digest(path.read_bytes()) for path in self.paths
        }
        """The SHA-256 of the data set of each instance, by its SOP instance UID."""
        self.pushed_back: Counter[str] = Counter()
        """How often the node had no room, by its answer."""
        self._uids = dict(zip(map(str, self.paths), self.digests, strict=True))
        self.acknowledged: list[str] = []
        """Every SOP instance UID that was answered with success, at whatever time."""
        self._over = threading.Event()

    def send(self, port: int, host: str = "127.0.0.1") -> None:
        """Send it, and what was not acknowledged again, until all of it is or `give_up` is called. For a thread."""
        while not self._over.is_set() and (missing := self.missing()):
            self._try(host, port, missing)
            self._over.wait(0.3)

    def give_up(self) -> None:
        self._over.set()

    def missing(self) -> list[str]:
        """The paths of what was not acknowledged yet."""
        known = set(self.acknowledged)
        return [path for path, uid in self._uids.items() if uid not in known]

    def _try(self, host: str, port: int, paths: list[str]) -> None:
        command = [
            require("storescu"),
            "-v",
            "-to",
            "5",
            "-ta",
            "30",
            "-td",
            "30",
            "-aet",
            "SCANNER",
            "-aec",
            "DIFFMSR",
        ]
        with subprocess.Popen(
            [*command, host, str(port), *paths], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as scanner:
            assert scanner.stdout is not None
            sending = ""
            for line in scanner.stdout:
                if line.startswith(_SENDING):
                    sending = line.removeprefix(_SENDING).strip()
                elif line.startswith(_ACKNOWLEDGED):
                    self.acknowledged.append(self._uids[sending])
                self.pushed_back.update(answer for words, answer in PUSHED_BACK.items() if words in line)


def digest(content: bytes) -> str:
    """The SHA-256 of the data set in a Part 10 file."""
    return hashlib.sha256(data_set(content)).hexdigest()


def data_set(content: bytes) -> bytes:
    """What follows the file meta information in a Part 10 file, whose first element says how long that is (PS3.10 section
    7.1)."""
    assert content[128:138] == b"DICM\x02\x00\x00\x00UL", "no Part 10 file with a group length"
    return content[144 + int.from_bytes(content[140:144], "little") :]
