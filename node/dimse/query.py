"""C-FIND in the Study Root Query/Retrieve Information Model (PS3.4 C.4.1)."""

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StudyRootQueryRetrieveInformationModelFind as StudyRootFind,
)

from node.dimse.associations import Peer, associate
from node.dimse.status import C_FIND, words

FIND_CONTEXTS = [(str(StudyRootFind), str(syntax)) for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)]

MAX_MATCHES = 100_000
"""More than any study has. A peer that returns more ignores the keys."""


def c_find(peer: Peer, level: str, **keys: str) -> list[Dataset]:
    """The matches of a query at `level` (SERIES or IMAGE); `keys` are keywords; those with an empty value are return
    keys. PeerError when the peer does not complete its answer."""
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    matches = []
    with associate(peer, FIND_CONTEXTS) as association:
        for answer, match in association.send_c_find(query, StudyRootFind):
            status = answer.get("Status")
            if status is None:
                raise peer.error("no answer to the C-FIND", "check the peer's log, and timeout_s")
            if status in (0xFF00, 0xFF01) and match is not None:
                matches.append(match)
                if len(matches) > MAX_MATCHES:
                    association.abort()
                    raise peer.error("the C-FIND returned too many matches", "check the peer's log")
            elif status != 0x0000:
                raise peer.error(f"C-FIND answered {words(C_FIND, status)}", "check the peer's log")
    return matches
