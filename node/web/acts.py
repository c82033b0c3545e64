"""What a person can do to jobs, in words and as a call of the tracker's administration."""

from collections.abc import Callable
from dataclasses import dataclass

from node.tracker import administration
from node.tracker.states import FINISHED, LEASED, Kind, State
from node.web.site import Site


@dataclass(frozen=True)
class Act:
    """Something to do to a job."""

    name: str
    verb: str
    done: str
    question: str
    """What it means, for the person who is asked."""
    possible: Callable[[Kind, State], bool]
    """Whether to offer it; the tracker has the last word."""
    carry_out: Callable[[Site, int, str], None]
    """(site, job, user). Raises NotFoundError, TransitionError."""
    danger: bool = False


def _resend(site: Site, job_id: int, user: str) -> None:
    administration.resend_job(site.tracker, job_id, site.settings.destinations, user)


ACTS = {
    act.name: act
    for act in (
        Act(
            "retry", "Retry", "retried",
            "The job is tried again now, with all its attempts.",
            lambda kind, state: state not in LEASED | {State.DONE, State.RECEIVING, State.READY, State.COMMITTING},
            lambda site, job_id, user: administration.retry(site.tracker, job_id, user),
        ),
        Act(
            "hold", "Hold", "held",
            "The job does not go on until somebody releases it.",
            lambda kind, state: state not in LEASED | FINISHED | {State.HELD},
            lambda site, job_id, user: administration.hold(site.tracker, job_id, user),
        ),
        Act(
            "release", "Release", "released",
            "The job goes on now. If it is a delivery, the result goes to its destination.",
            lambda kind, state: state is State.HELD,
            lambda site, job_id, user: administration.release(site.tracker, job_id, user),
        ),
        Act(
            "resend", "Resend", "sent again",
            "The result is sent again: that of a delivery to its destination, any other to all destinations.",
            lambda kind, state: kind in (Kind.INFER, Kind.DERIVE, Kind.DELIVER) and state is State.DONE,
            _resend,
        ),
        Act(
            "cancel", "Cancel", "cancelled",
            "The job stops, and nothing follows from it. It can be retried later.",
            lambda kind, state: state not in LEASED | FINISHED,
            lambda site, job_id, user: administration.cancel(site.tracker, job_id, user),
            danger=True,
        ),
    )
}  # fmt: skip
