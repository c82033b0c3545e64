"""Fetch: a missing reference is requested from the PACS configured in [fetch], among MR series of the study that were not
pushed.

Fetched instances are kept by `Store` like pushed ones, and reopen the match of their study. The match decides how the
series are used. Here it is only decided which series are worth fetching, by the answers of a C-FIND."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from node.config.settings import FetchSettings, Settings
from node.dicom.attributes import Attributes
from node.dimse.associations import Peer, associate
from node.dimse.query import c_find
from node.dimse.status import C_GET, C_MOVE, Meaning, words
from node.errors import PeerError
from node.identity import is_ours
from node.payloads import FetchResult
from node.receive.contexts import ACCEPTED_TRANSFER_SYNTAXES, MR_SOP_CLASSES
from node.receive.stock import take_instance
from node.receive.store import Store
from node.tracker.outcomes import Done, Outcome, Retry
from node.tracker.queue import backoff_s
from node.tracker.worker import Handler, Lease

log = structlog.get_logger()

GET, MOVE = str(StudyRootQueryRetrieveInformationModelGet), str(StudyRootQueryRetrieveInformationModelMove)
_UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
_RETRIEVED = [*MR_SOP_CLASSES, SecondaryCaptureImageStorage]
"""What a PACS may send in answer to a C-GET: a series of MR images often has a screenshot in it."""
GET_CONTEXTS = [
    *((GET, syntax) for syntax in _UNCOMPRESSED),
    *((str(sop_class), str(syntax)) for sop_class in _RETRIEVED for syntax in ACCEPTED_TRANSFER_SYNTAXES),
]
MOVE_CONTEXTS = [(MOVE, syntax) for syntax in _UNCOMPRESSED]

RETURN_KEYS = ("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "NumberOfSeriesRelatedInstances")
"""Return keys of the C-FIND for the MR series of a study."""


@dataclass(frozen=True)
class _Series:
    """A series in the answer of a C-FIND."""

    uid: str
    number: int
    instances: int | None
    """None where the PACS does not count them."""


def make_fetch_handler(store: Store, fetch: FetchSettings, settings: Settings) -> Handler:
    """The work of a fetch job, as a function of a lease."""
    peer = Peer.fetch(fetch, settings.scp.ae_title)

    def work(lease: Lease) -> Outcome:
        claim = lease.claim
        delay_s = backoff_s(claim.attempts, fetch.initial_delay_s, fetch.max_delay_s)
        brought: dict[str, int] = {}
        problems: list[str] = []
        try:
            held = store.intact(claim.study_uid)
            candidates = _candidates(peer, claim.study_uid, held, fetch, settings)
            for series in candidates:
                if len(brought) == fetch.max_series:
                    break
                problem = _retrieve(lease, peer, store, fetch, series.uid)
                new = store.intact(claim.study_uid)[series.uid] - held[series.uid]
                if new:
                    brought[series.uid] = new
                elif not problem:
                    problem = "the PACS answered success, but sent no new instance"
                if problem:
                    problems.append(f"series {series.uid}: {problem}")
                    log.warning("fetch.incomplete", study=claim.study_uid, series=series.uid, reason=problem, new=new)
        except PeerError as error:
            if not brought:
                return Retry(str(error), delay_s)
            problems.append(str(error))
        if brought:
            sentence = f"fetched {sum(brought.values())} instances of {len(brought)} series"
            return Done("; ".join([sentence, *problems]), FetchResult(sentence=sentence, series=brought))
        if problems:
            return Retry(f"nothing could be fetched from {peer.ae_title}: {problems[0]}", delay_s)
        nothing = f"{peer.ae_title} has no further MR series of the study that could be its reference"
        if claim.attempts >= fetch.max_attempts:
            return Done(f"{nothing}; the request is not repeated", FetchResult(sentence=nothing, series={}))
        return Retry(nothing, delay_s)

    return work


def _candidates(
    peer: Peer, study_uid: str, held: Mapping[str, int], fetch: FetchSettings, settings: Settings
) -> list[_Series]:
    """MR series of the study that the PACS has and the node has not, or only in part, by their numbers; `held` are the intact
    instances that the node has of each. Left out are series that are too large for a reference, that the match would veto by their description, and results of this node."""
    matches = c_find(peer, "SERIES", StudyInstanceUID=study_uid, Modality="MR", **dict.fromkeys(RETURN_KEYS, ""))
    found: dict[str, _Series] = {}
    for match in matches:
        a = Attributes(match)
        uid, description = a.uid("SeriesInstanceUID"), a.text("SeriesDescription") or ""
        if uid is None or (a.text("Modality") or "MR") != "MR":
            continue
        # For a result of this node, a PACS may return only the description.
        ours = is_ours(match) or description.startswith(settings.output.series_description_prefix.strip())
        if ours or settings.match.veto(description):
            continue
        series = _Series(uid, a.integer("SeriesNumber") or 0, a.integer("NumberOfSeriesRelatedInstances"))
        too_large = series.instances is not None and series.instances > fetch.max_instances
        if not too_large and held.get(uid, 0) < (1 if series.instances is None else series.instances):
            found[uid] = series
    return sorted(found.values(), key=lambda series: (series.number, series.uid))


def _retrieve(lease: Lease, peer: Peer, store: Store, fetch: FetchSettings, series_uid: str) -> str | None:
    """Retrieve one series; the problem in words, or None. PeerError when the PACS does not answer."""
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID, query.SeriesInstanceUID = lease.claim.study_uid, series_uid
    if fetch.method == "get":
        roles = [build_role(sop_class, scp_role=True) for sop_class in _RETRIEVED]
        with associate(peer, GET_CONTEXTS, roles, [(evt.EVT_C_STORE, take_instance, [store.put])]) as association:
            if not any(context.abstract_syntax == GET for context in association.accepted_contexts):
                raise peer.error(
                    f"the PACS does not accept {UID(GET).name}", 'check its log, or set [fetch] method = "move"'
                )
            return _follow(lease, peer, "C-GET", C_GET, association.send_c_get(query, GET))
    with associate(peer, MOVE_CONTEXTS) as association:
        return _follow(lease, peer, "C-MOVE", C_MOVE, association.send_c_move(query, peer.calling_ae_title, MOVE))


def _follow(
    lease: Lease, peer: Peer, service: str, table: tuple[Meaning, ...], answers: Iterator[tuple[Dataset, Any]]
) -> str | None:
    """Read the answers to a retrieval until the last one."""
    for answer, _ in answers:
        status = answer.get("Status")
        if status is None:
            raise peer.error(f"no answer to the {service}", "check the PACS's log, and [fetch] timeout_s")
        if status == 0x0000:
            return None
        if status != 0xFF00:
            return f"{service} answered {words(table, status)}"
        done = int(answer.get("NumberOfCompletedSuboperations") or 0)
        lease.progress(done, done + int(answer.get("NumberOfRemainingSuboperations") or 0) + 1)
    raise peer.error(f"the {service} ended without its last answer", "check the PACS's log")
