"""The match stage: when no more instances of a study arrive, read its headers, judge them, and request infer jobs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydicom import Dataset
from sqlalchemy import select

from node.archive.facade import Archive
from node.config.match import MatchSettings
from node.config.settings import CompletionSettings
from node.dicom.attributes import Attributes
from node.errors import DamagedFileError, LostError
from node.match.assess import assess_study
from node.match.stack_roles import ModelFacts
from node.match.twins import untwinned
from node.payloads import PairRequest
from node.tracker import instances
from node.tracker.arrivals import COUNTED_QUIET_S
from node.tracker.associations import is_open
from node.tracker.delivered import delivered_pairs
from node.tracker.handle import Tracker
from node.tracker.outcomes import Matched, NewJob, Outcome, Refused
from node.tracker.queue import Claim
from node.tracker.states import Kind
from node.tracker.tables import Instance, Series
from node.tracker.worker import Handler, Lease
from node.verdicts import StudyOutcome

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
        study = _arrived(tracker, study_uid, now, completion)
        received, revisions, newest_at = study.received, study.revisions, study.newest_at
        headers = {uid: [_header(instance, archive) for instance in received.get(uid, ())] for uid in study.quiet}
        doubted = {uid: due for uid, due in study.counted.items() if is_refuted(headers[uid])}
        look_again_at = min([*study.arriving, *doubted.values()], default=None)
        quiet = [uid for uid in study.quiet if uid not in doubted]
        if not quiet and look_again_at is not None:
            return Matched("every series is still arriving", None, (), receiving=True, look_again_at=look_again_at)
        delivered = delivered_pairs(tracker, study_uid) if rules.keep_delivered else {}
        arrival = {one.sop_uid: one.received_at for instances in received.values() for one in instances}
        of_quiet = sorted((h for uid in quiet for h in headers[uid]), key=lambda h: arrival[str(h.SOPInstanceUID)])
        guides = {sop_uid for pair in delivered.values() for sop_uid in pair.reference.sop_uids}
        one_each = untwinned(of_quiet, guides)
        verdict = assess_study(one_each.headers, rules, model, list(delivered.values()))
        if one_each.left_out:
            again = f"{one_each.left_out} images were sent again under other SOP instance UIDs; of each one is used."
            verdict = verdict.model_copy(update={"sentence": f"{verdict.sentence} {again}"})
        wanted = tuple(
            replace(
                _infer_job(_with_content(request, received), revisions, pixel_settings, infer_attempts, delivered),
                twins_of_target=one_each.took_the_place_of.get(request.target.series_uid, frozenset()),
            )
            for request in verdict.requests
        )
        if look_again_at is not None:
            return Matched(
                "other series are still arriving", verdict, wanted, receiving=True, look_again_at=look_again_at
            )
        if verdict.outcome is StudyOutcome.PAIRED:
            return Matched(verdict.sentence, verdict, wanted)
        deadline = newest_at + timedelta(seconds=completion.study_max_wait_s)
        if verdict.outcome is StudyOutcome.WAITING and now < deadline:
            if fetch_attempts is not None and verdict.missing == "reference":
                wanted = (*wanted, _fetch_job(lease.claim, fetch_attempts))
            return Matched(verdict.sentence, verdict, wanted, waiting=True, look_again_at=deadline)
        return Refused(verdict.code or "E_NO_REFERENCE", verdict.sentence, verdict, wanted)

    return work


@dataclass(frozen=True)
class _Arrived:
    """One consistent look at a study."""

    quiet: list[str]
    """The series that are complete."""
    counted: dict[str, datetime]
    """Those of them that are complete only by the scanner's count, and until when they have to be quiet without it."""
    arriving: list[datetime]
    """When each other series may be complete."""
    received: dict[str, list[Instance]]
    """The instances of each series."""
    revisions: dict[str, int]
    """The revision of each series."""
    newest_at: datetime
    """When the newest instance arrived."""


def _arrived(tracker: Tracker, study_uid: str, now: datetime, completion: CompletionSettings) -> _Arrived:
    found = _Arrived([], {}, [], {}, {}, now)
    with tracker.read() as session:
        of_study = select(Series).where(Series.study_uid == study_uid, Series.instances > 0)
        series = session.scalars(of_study.order_by(Series.series_uid)).all()
        open_ = session.scalar(select(is_open(study_uid)))
        for instance in session.scalars(instances.current().where(Instance.study_uid == study_uid)):
            found.received.setdefault(instance.series_uid, []).append(instance)
    newest_at = max((one.last_received_at for one in series), default=now)
    expecting = newest_at + timedelta(seconds=completion.association_quiet_s) if open_ else now
    for one in series:
        found.revisions[one.series_uid] = one.revision
        due = one.last_received_at + timedelta(seconds=completion.series_quiet_s)
        sooner = one.last_received_at + timedelta(seconds=min(COUNTED_QUIET_S, completion.series_quiet_s))
        if expecting > now:
            found.arriving.append(expecting)
        elif due <= now:
            found.quiet.append(one.series_uid)
        elif one.complete and sooner <= now:
            found.quiet.append(one.series_uid)
            found.counted[one.series_uid] = due
        else:
            found.arriving.append(sooner if one.complete else due)
    return replace(found, newest_at=newest_at)


def is_refuted(headers: Sequence[Dataset]) -> bool:
    """Whether the headers of a series that is complete by ImagesInAcquisition (0020,1002) contradict that count: they
    disagree on it, number an image above it, or the numbers leave one out."""
    said = {Attributes(header).count("ImagesInAcquisition") for header in headers}
    numbers = {Attributes(header).integer("InstanceNumber") for header in headers}
    known = {number for number in numbers if number is not None}
    whole = len(known) == len(headers) and known <= set(range(1, len(headers) + 1))
    return said != {len(headers)} or not whole


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
    request: PairRequest,
    revisions: dict[str, int],
    pixel_settings: dict[str, str],
    attempts: int,
    delivered: Mapping[str, PairRequest],
) -> NewJob:
    """The job for a pair. If its result was delivered, that is the job which made it, whatever the settings are now."""
    payload: dict[str, Any] = request.model_dump(mode="json")
    # What a pair replaces is not part of its name, and an empty digest is not either: pairs keep the names that earlier versions gave.
    named = {k: v for k, v in payload.items() if k != "replaces" and (k != "content" or v)}
    name = hashlib.sha256(json.dumps([named, pixel_settings], sort_keys=True).encode()).hexdigest()
    series = {request.target.series_uid, request.reference.series_uid}
    return NewJob(
        kind=Kind.INFER,
        key=next((key for key, before in delivered.items() if _same_pair(before, request)), f"infer:{name[:32]}"),
        study_uid=request.study_uid,
        payload=payload,
        max_attempts=attempts,
        revision=sum(revisions[uid] for uid in series),
        target_series_uid=request.target.series_uid,
        reference_series_uid=request.reference.series_uid,
    )


def _same_pair(a: PairRequest, b: PairRequest) -> bool:
    return (a.target, a.reference, a.content) == (b.target, b.reference, b.content)


def _fetch_job(match: Claim, attempts: int) -> NewJob:
    """Named by what has arrived of the study: when more has arrived and a reference is still missing, a new fetch starts."""
    key = f"fetch:{match.study_uid}:{match.revision}"
    return NewJob(Kind.FETCH, key, match.study_uid, payload={}, max_attempts=attempts)
