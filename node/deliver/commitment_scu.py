"""Storage commitment as SCU: request it for the instances that a destination has accepted, or else look for them by
C-FIND."""

import time
from collections.abc import Callable, Sequence

from pydicom import Dataset
from pynetdicom import evt

from node.dimse.associations import Peer, associate
from node.dimse.commitment_messages import (
    CONTEXTS,
    PUSH_MODEL,
    REQUEST,
    WELL_KNOWN_INSTANCE,
    ReferencedInstance,
    Report,
    request,
    take_report,
)
from node.dimse.query import c_find
from node.dimse.status import N_ACTION, words

SAME_ASSOCIATION_S = 5.0
"""How long the association stays open for a report on it. A destination that takes longer opens one to us."""


def request_commitment(
    peer: Peer,
    transaction_uid: str,
    instances: Sequence[Dataset],
    record: Callable[[Report], bool],
    answered: Callable[[], bool],
) -> None:
    """N-ACTION for `instances` (PS3.4 J.3.2), then wait a moment for the report, on this association or, as `answered`
    tells, any other. Raises PeerError when the peer does not accept the request."""

    wanted = [ReferencedInstance(str(ds.SOPClassUID), str(ds.SOPInstanceUID)) for ds in instances]
    on_report = (evt.EVT_N_EVENT_REPORT, take_report, [record])
    with associate(peer, CONTEXTS, handlers=[on_report]) as association:
        answer, _ = association.send_n_action(
            request(transaction_uid, wanted), REQUEST, PUSH_MODEL, WELL_KNOWN_INSTANCE
        )
        status = answer.get("Status")
        if status is None:
            raise peer.error("no answer to the request for storage commitment", "check the peer's log, and timeout_s")
        if status != 0x0000:
            what = f"storage commitment answered {words(N_ACTION, status)}"
            raise peer.error(what, "check the peer's log, and whether it knows our AE title for storage commitment")
        deadline = time.monotonic() + SAME_ASSOCIATION_S
        while association.is_established and time.monotonic() < deadline and not answered():
            time.sleep(0.1)


def found(peer: Peer, instances: Sequence[Dataset]) -> set[str]:
    """SOP instance UIDs of those that a C-FIND lists. Raises PeerError when the peer does not answer it."""
    series = dict.fromkeys((str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)) for ds in instances)
    listed = {
        str(match.get("SOPInstanceUID", ""))
        for study_uid, series_uid in series
        for match in c_find(peer, "IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, SOPInstanceUID="")
    }
    return listed & {str(ds.SOPInstanceUID) for ds in instances}
