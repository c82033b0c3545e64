"""Keys: the names under which the archive keeps things. Pure functions, the same for a folder and for an object store.

    instances/STUDY/SERIES/SOP.dcm             an instance as received
    instances/STUDY/SERIES/SOP-DIGEST.dcm      another content of the same SOP instance: a correction, or what two hosts
                                               received at the same moment
    results/NAME.npz                           a super-resolved volume
    layers/NAME.layers                         what the viewer shows of it
    derived/NAME/00000-SOP.dcm                 an instance made of the result NAME, numbered in the order to be sent
    derived/NAME/index.json, report.html       which instances those are, with their digests; the report as a page
    tracker-id                                 the tracker whose archive this is, where hosts share it

NAME is the key of the infer job. A key is relative, has no empty part and no part that begins with a dot, so as a path
it cannot leave the archive's folder.
"""

import re
from dataclasses import dataclass

from node.dicom.uid import is_uid
from node.errors import StorageError

FOLDERS = ("instances", "results", "layers", "derived")
OWNER_KEY = "tracker-id"

_DIGEST_DIGITS = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]*")
_INSTANCE = re.compile(r"instances/([0-9.]+)/([0-9.]+)/([0-9.]+)(?:-([0-9a-f]+))?\.dcm")
_DERIVED = re.compile(r"derived/([^/]+)/([0-9]+)-([0-9.]+)\.dcm")


@dataclass(frozen=True)
class InstanceName:
    """What the key of a received instance says."""

    study_uid: str
    series_uid: str
    sop_uid: str
    digest: str | None
    """The first digits of the content's SHA-256, where the key has them."""


@dataclass(frozen=True)
class DerivedName:
    """What the key of a derived instance says."""

    result: str
    number: int
    """Its place in the order to be sent, from 0."""
    sop_uid: str


def instance_key(study_uid: str, series_uid: str, sop_uid: str, sha256: str | None = None) -> str:
    """The key of a received instance; with `sha256` the key of that content alone. StorageError when one is not a UID."""
    if not all(is_uid(uid) for uid in (study_uid, series_uid, sop_uid)):
        raise StorageError("not a valid UID, so it cannot be part of a key")
    content = "" if sha256 is None else f"-{sha256[:_DIGEST_DIGITS]}"
    return f"instances/{study_uid}/{series_uid}/{sop_uid}{content}.dcm"


def study_prefix(study_uid: str) -> str:
    """What the keys of all received instances of a study begin with."""
    if not is_uid(study_uid):
        raise StorageError("not a valid UID, so it cannot be part of a key")
    return f"instances/{study_uid}/"


def result_key(name: str) -> str:
    """The key of the result `name`."""
    return f"results/{_checked(name)}.npz"


def keys_of_result(name: str) -> list[str]:
    """The key of the result `name`, and what those of everything made of it begin with."""
    return [derived_prefix(name), layers_key(name), result_key(name)]


def layers_key(name: str) -> str:
    """The key of what the viewer shows of the result `name`."""
    return f"layers/{_checked(name)}.layers"


def derived_prefix(name: str) -> str:
    """What the keys of everything made of the result `name` begin with."""
    return f"derived/{_checked(name)}/"


def derived_key(name: str, number: int, sop_uid: str) -> str:
    """The key of the derived instance that is sent at place `number`, from 0."""
    if not is_uid(sop_uid):
        raise StorageError("not a valid UID, so it cannot be part of a key")
    return f"{derived_prefix(name)}{number:05d}-{sop_uid}.dcm"


def index_key(name: str) -> str:
    """The key of the list of what was made of the result `name`."""
    return f"{derived_prefix(name)}index.json"


def page_key(name: str) -> str:
    """The key of the report on the result `name`."""
    return f"{derived_prefix(name)}report.html"


def parse_key(key: str) -> InstanceName | DerivedName | None:
    """What the key of an instance says; None when it is not the key of an instance."""
    if (found := _INSTANCE.fullmatch(key)) and all(is_uid(uid) for uid in found.groups()[:3]):
        study_uid, series_uid, sop_uid, digest = found.groups()
        return InstanceName(study_uid, series_uid, sop_uid, digest)
    if (found := _DERIVED.fullmatch(key)) and _NAME.fullmatch(found[1]) and is_uid(found[3]):
        return DerivedName(found[1], int(found[2]), found[3])
    return None


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise StorageError("not the name of a result, so it cannot be part of a key")
    return name
