"""The way of a pair, as jobs: infer makes a result, derive makes instances of it, deliver sends them to a destination. Here
is what each step is asked for, and under which key, so that the same work is always the same job."""

from datetime import datetime

from node.payloads import DeliverRequest, DeriveRequest, PairRequest
from node.tracker.outcomes import NewJob
from node.tracker.states import Kind
from node.tracker.tables import Job

DERIVE_ATTEMPTS = 300
"""About a day: a problem such as a full disk may take that long until somebody solves it."""


def infer_job(key: str, request: PairRequest, max_attempts: int) -> NewJob:
    """To super-resolve a pair. The result has the job's key as its name."""
    return NewJob(
        kind=Kind.INFER,
        key=key,
        study_uid=request.study_uid,
        payload=request.model_dump(mode="json"),
        max_attempts=max_attempts,
        target_series_uid=request.target.series_uid,
        reference_series_uid=request.reference.series_uid,
    )


def derive_job(result: str, request: PairRequest) -> NewJob:
    """To encode the result of that name."""
    return NewJob(
        kind=Kind.DERIVE,
        key=f"derive:{result}",
        study_uid=request.study_uid,
        payload=DeriveRequest(result=result, request=request).model_dump(mode="json"),
        max_attempts=DERIVE_ATTEMPTS,
        target_series_uid=request.target.series_uid,
        reference_series_uid=request.reference.series_uid,
    )


def deliver_job(
    result: str, request: PairRequest, destination: str, max_attempts: int, held: str | None = None
) -> NewJob:
    """To send what was derived from the result of that name to a destination."""
    return NewJob(
        kind=Kind.DELIVER,
        key=f"{result}:{destination}",
        study_uid=request.study_uid,
        payload=DeliverRequest(result=result, request=request, destination=destination).model_dump(mode="json"),
        max_attempts=max_attempts,
        target_series_uid=request.target.series_uid,
        reference_series_uid=request.reference.series_uid,
        destination=destination,
        held=held,
    )


def replay_job(study_uid: str, now: datetime) -> NewJob:
    """To super-resolve a study again and compare. Each replay is work of its own, told apart by when it was asked for."""
    return NewJob(
        kind=Kind.REPLAY, key=f"replay:{study_uid}:{now:%Y%m%dT%H%M%S%f}", study_uid=study_uid, payload={}, max_attempts=1
    )  # fmt: skip


def result_of(job: Job) -> tuple[str, PairRequest]:
    """The name of the result that an infer, derive or deliver job makes, encodes or sends, and the pair it is made from."""
    if job.kind is Kind.INFER:
        return job.key, PairRequest.model_validate(job.payload)
    request = (DeriveRequest if job.kind is Kind.DERIVE else DeliverRequest).model_validate(job.payload)
    return request.result, request.request
