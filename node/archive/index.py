"""The index of what was derived from a result: which instances, in the order to be sent, and with which warnings."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from node.archive.digest import sha256
from node.archive.layout import DerivedName, parse_key


@dataclass(frozen=True)
class DerivedInstance:
    """What was made of a result, and where it is kept."""

    sop_uid: str
    key: str
    sha256: str | None
    """Of the whole file; None where a version without digests made it."""


@dataclass(frozen=True)
class Index:
    """What was derived from one result."""

    instances: list[DerivedInstance]
    codes: frozenset[str]
    """Of the warnings that deriving it gave."""


def encode_index(made: Iterable[DerivedInstance], codes: Iterable[str] = ()) -> bytes:
    """As JSON, with a digest."""
    rows = [{"sop_uid": m.sop_uid, "name": m.key.rsplit("/", 1)[1], "sha256": m.sha256} for m in made]
    digest = sha256(json.dumps(rows).encode())
    return json.dumps({"instances": rows, "sha256": digest, "codes": sorted(codes)}, indent=1).encode()


def decode_index(content: bytes, prefix: str) -> Index:
    """`prefix` is what the keys of the instances begin with. ValueError when it is damaged."""
    try:
        index = json.loads(content)
        if "instances" not in index:
            return Index(_without_digests(index, prefix), frozenset())
        rows = index["instances"]
        if sha256(json.dumps(rows).encode()) != index["sha256"]:
            raise ValueError("its digest differs")
        made = [DerivedInstance(row["sop_uid"], f"{prefix}{row['name']}", row["sha256"]) for row in rows]
        return Index(made, frozenset(map(str, index.get("codes", ()))))
    except (KeyError, TypeError, AttributeError):
        raise ValueError("not an index") from None


def _without_digests(index: dict[str, str], prefix: str) -> list[DerivedInstance]:
    """An index of a version without digests: SOP instance UID to file name."""
    made = [DerivedInstance(uid, f"{prefix}{name}", None) for uid, name in index.items()]
    for instance in made:
        name = parse_key(instance.key)
        if not isinstance(name, DerivedName) or name.sop_uid != instance.sop_uid:
            raise ValueError("not an index")
    return made
