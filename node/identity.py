"""The identity of the product in everything it makes, and of this node among several."""

import os
import socket
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER = "DiffMSR node project"
"""Manufacturer (0008,0070) of everything the node makes."""

MODEL_NAME = "DiffMSR node"
"""ManufacturerModelName (0008,1090) of everything the node makes."""


_OWN_IMAGE_TYPE = frozenset({"AI", "SUPERRES"})
"""Values of ImageType in the images that the node makes. No image that a scanner measured has both."""


def is_ours(header: "Dataset") -> bool:
    """Whether a node like this one made the object, by any of the marks that it puts there: software on the way may
    have replaced the others. Every stage that must recognise our own output, sent back by a PACS, uses this."""
    from node.dicom.attributes import Attributes  # here, because most who ask for an identity read no DICOM

    a = Attributes(header)
    return (
        MANUFACTURER in a.texts("Manufacturer")
        or MODEL_NAME in a.texts("ManufacturerModelName")
        or set(a.code("ImageType")) >= _OWN_IMAGE_TYPE
    )


def node_id(data_dir: Path) -> str:
    """The identity of the node whose own folder `data_dir` is: made at its first start, and kept in the folder. Unlike a
    host name it is never the same for two nodes, and stays when a container gets another name. OSError when it can be
    neither read nor made."""
    path = data_dir / "node-id"
    with suppress(FileNotFoundError):
        return path.read_text().strip()
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=data_dir, prefix=".node-id-", delete=False) as file:
        file.write(uuid.uuid4().hex + "\n")
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o644)  # no secret: commands of other users name the node too
    try:
        os.link(file.name, path)  # of two processes that start together, one makes the identity of both
    except FileExistsError:
        if path.is_symlink():  # to nowhere, or it would have been read
            Path(file.name).replace(path)
    except OSError:  # a file system without hard links
        Path(file.name).replace(path)
    Path(file.name).unlink(missing_ok=True)
    return path.read_text().strip()


def worker_name(data_dir: Path, role: str, pid: int | None = None) -> str:
    """The name of a worker in the tracker: of this process, unless another one's `pid` is given. All workers of a role of one
    service share what comes before the process, and nobody else does: the node's identity tells two services of one host
    name apart, and the host name two hosts that share a data folder."""
    return f"{workers_of(data_dir, role)}{pid or os.getpid()}"


def workers_of(data_dir: Path, role: str) -> str:
    """What the names of all workers of a role of this node begin with."""
    return f"{socket.gethostname()[:64]}.{node_id(data_dir)[:8]}/{role}/"
