"""The match stage: when no more instances of a study arrive, read its headers, judge them, and request infer jobs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydicom import Dataset
from sqlalchemy import select

from node.archive.facade import Archive
from node.config.match import MatchSettings
from node.config.settings import CompletionSettings
from node.errors import DamagedFileError, LostError
from node.match.assess import assess_study
from node.match.stack_roles import ModelFacts
from node.payloads import PairRequest
from node.tracker import instances
from node.tracker.handle import Tracker
from node.tracker.outcomes import Matched, NewJob, Outcome, Refused
from node.tracker.queue import Claim
from node.tracker.states import Kind
from node.tracker.tables import Instance, Series
from node.tracker.worker import Handler, Lease

log = structlog.get_logger()


def make_match_handler(
    tracker: Tracker,
    archive: Archive,
    completion: CompletionSettings,
    rules: MatchSettings,
    model: ModelFacts,
    pixel_settings: dict[str, str],
    infer_attempts: int,
    fetch_attempts: int | None,
) -> Handler:
    """The match stage as a function of a lease. `pixel_settings` is everything besides the pair that changes the result
    (weights digest, precision, version). Together with the pair it names the infer job, so that a study that is sent
    twice is processed once. `fetch_attempts`: how often to request a missing reference from a PACS; None without
    [fetch]."""

    def work(lease: Lease) -> Outcome:
        now = tracker.clock()
        study_uid = lease.claim.study_uid
        quiet, arriving, received, revisions, newest_at = _arrived(tracker, study_uid, now, completion.series_quiet_s)
        look_again_at = min(arriving, default=None)
        if not quiet and arriving:
            return Matched("every series is still arriving", None, (), receiving=True, look_again_at=look_again_at)
        headers = (_header(instance, archive) for series_uid in quiet for instance in received[series_uid])
        verdict = assess_study(headers, rules, model)
        wanted = tuple(
            _infer_job(_with_content(request, received), revisions, pixel_settings, infer_attempts)
            for request in verdict.requests
        )
        if look_again_at is not None:
            return Matched(
                "other series are still arriving", verdict, wanted, receiving=True, look_again_at=look_again_at
            )
        if verdict.outcome == "paired":
            return Matched(verdict.sentence, verdict, wanted)
        deadline = newest_at + timedelta(seconds=completion.study_max_wait_s)
        if verdict.outcome == "waiting" and now < deadline:
            if fetch_attempts is not None and verdict.missing == "reference":
                wanted = (*wanted, _fetch_job(lease.claim, fetch_attempts))
            return Matched(verdict.sentence, verdict, wanted, waiting=True, look_again_at=deadline)
        return Refused(verdict.code or "E_NO_REFERENCE", verdict.sentence, verdict, wanted)

    return work


def _arrived(
    tracker: Tracker, study_uid: str, now: datetime, quiet_s: float
) -> tuple[list[str], list[datetime], dict[str, list[Instance]], dict[str, int], datetime]:
    """One consistent look at a study: the complete series, when each other series may be complete, the instances and the
    revision of each series, and when the newest instance arrived."""
    quiet, arriving = [], []
    received: dict[str, list[Instance]] = {}
    revisions: dict[str, int] = {}
    newest = []
    with tracker.read() as session:
        for series in session.scalars(select(Series).where(Series.study_uid == study_uid, Series.instances > 0)):
            revisions[series.series_uid] = series.revision
            newest.append(series.last_received_at)
            due = series.last_received_at + timedelta(seconds=quiet_s)
            if due <= now or series.complete:
                quiet.append(series.series_uid)
            else:
                arriving.append(due)
        for instance in session.scalars(instances.current().where(Instance.study_uid == study_uid)):
            received.setdefault(instance.series_uid, []).append(instance)
    return sorted(quiet), arriving, received, revisions, max(newest, default=now)


def _header(instance: Instance, archive: Archive) -> Dataset:
    """The header of an instance. If the instance was deleted or damaged since it arrived, a header without a position: it
    is a missing slice of its series, and the study is judged nevertheless."""
    try:
        return instances.stored(instance, archive).read_header()
    except (LostError, DamagedFileError) as error:
        log.warning("match.instance_lost", study=instance.study_uid, reason=str(error))
        lost = Dataset()
        lost.StudyInstanceUID, lost.SeriesInstanceUID = instance.study_uid, instance.series_uid
        lost.SOPInstanceUID, lost.SOPClassUID, lost.Modality = instance.sop_uid, instance.sop_class_uid, "MR"
        return lost


def _with_content(request: PairRequest, received: Mapping[str, Sequence[Instance]]) -> PairRequest:
    """The request with the digest of those of its instances that were corrected, or sent again after a drop: another
    content of a pair is another pair."""
    pair = {*request.target.sop_uids, *request.reference.sop_uids}
    series = {request.target.series_uid, request.reference.series_uid}
    later = sorted(
        (i.sop_uid, i.sha256) for uid in series for i in received[uid] if i.sop_uid in pair and i.version > 1
    )
    if not later:
        return request
    return request.model_copy(update={"content": hashlib.sha256(json.dumps(later).encode()).hexdigest()[:32]})


def _infer_job(
    request: PairRequest, revisions: dict[str, int], pixel_settings: dict[str, str], attempts: int
) -> NewJob:
    payload: dict[str, Any] = request.model_dump(mode="json")
    # What a pair replaces is no part of its name, nor is an empty digest: pairs keep the names that earlier versions gave.
    named = {k: v for k, v in payload.items() if k != "replaces" and (k != "content" or v)}
    name = hashlib.sha256(json.dumps([named, pixel_settings], sort_keys=True).encode()).hexdigest()
    series = {request.target.series_uid, request.reference.series_uid}
    return NewJob(
        kind=Kind.INFER,
        key=f"infer:{name[:32]}",
        study_uid=request.study_uid,
        payload=payload,
        max_attempts=attempts,
        revision=sum(revisions[uid] for uid in series),
        target_series_uid=request.target.series_uid,
        reference_series_uid=request.reference.series_uid,
    )


def _fetch_job(match: Claim, attempts: int) -> NewJob:
    """Named by what has arrived of the study: when more has arrived and a reference is still missing, a new fetch starts."""
    key = f"fetch:{match.study_uid}:{match.revision}"
    return NewJob(Kind.FETCH, key, match.study_uid, payload={}, max_attempts=attempts)
