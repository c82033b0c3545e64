"""What a person can do to jobs, in words and as a call of the tracker's administration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from node.errors import NodeError
from node.tracker import administration
from node.tracker.states import FINISHED, LEASED, Kind, State
from node.web.site import Site

Outcome = dict[int, NodeError]
"""The jobs that stay as they are, each with why."""


@dataclass(frozen=True)
class Act:
    """Something to do to jobs."""

    name: str
    verb: str
    done: str
    question: str
    """What it means, for the person who is asked."""
    possible: Callable[[Kind, State], bool]
    """Whether the page offers it. The tracker decides when it is carried out."""
    carry_out: Callable[[Site, Sequence[int], str], Outcome]
    """(site, jobs, user)."""
    danger: bool = False


def _administer(act: administration.Act, site: Site, job_ids: Sequence[int], user: str) -> Outcome:
    return administration.act_on(site.tracker, job_ids, act, user)


def _resend(site: Site, job_ids: Sequence[int], user: str) -> Outcome:
    return _one_by_one(
        job_ids, lambda job_id: administration.resend_job(site.tracker, job_id, site.settings.destinations, user)
    )


def _replay(site: Site, job_ids: Sequence[int], user: str) -> Outcome:
    return _one_by_one(job_ids, lambda job_id: administration.replay(site.tracker, job_id, user))


def _one_by_one(job_ids: Sequence[int], act: Callable[[int], object]) -> Outcome:
    refused: Outcome = {}
    for job_id in job_ids:
        try:
            act(job_id)
        except NodeError as error:
            refused[job_id] = error
    return refused


ACTS = {
    act.name: act
    for act in (
        Act(
            "retry", "Retry", "retried",
            "The job is tried again now, with all its attempts.",
            lambda kind, state: state not in LEASED | {State.DONE, State.RECEIVING, State.READY, State.COMMITTING},
            partial(_administer, "retry"),
        ),
        Act(
            "hold", "Hold", "held",
            "The job does not go on until somebody releases it.",
            lambda kind, state: state not in LEASED | FINISHED | {State.HELD},
            partial(_administer, "hold"),
        ),
        Act(
            "release", "Release", "released",
            "The job goes on now. If it is a delivery, the result goes to its destination.",
            lambda kind, state: state is State.HELD,
            partial(_administer, "release"),
        ),
        Act(
            "resend", "Resend", "to be sent again",
            "The result is sent again: that of a delivery to its destination, any other to all destinations.",
            lambda kind, state: kind in (Kind.INFER, Kind.DERIVE, Kind.DELIVER) and state is State.DONE,
            _resend,
        ),
        Act(
            "replay", "Replay", "to be replayed",
            "The study is super-resolved again, and the outcome compared with what was kept: answers, settings, pixels, bytes. "
            "Nothing is sent or replaced. It takes as long as the first time.",
            lambda kind, state: kind in (Kind.INFER, Kind.DERIVE, Kind.DELIVER) and state is State.DONE,
            _replay,
        ),
        Act(
            "cancel", "Cancel", "cancelled",
            "The job stops, and nothing follows from it. It can be retried later.",
            lambda kind, state: state not in LEASED | FINISHED,
            partial(_administer, "cancel"),
            danger=True,
        ),
    )
}  # fmt: skip
