"""Every state a job can be in, and every change of state there is, on one page.

A study is one `match` job, a pair of stacks one `infer` job, its result one `derive` job, and what is derived from it one
`deliver` job per destination. A reference that is missing and that a PACS may hold is one `fetch` job. A report that we
owe to a peer who asked for storage commitment is one `commit` job, a comparison that somebody asked for one `replay` job.

    match    receiving -> running -> done | waiting-pair | refused      (late slices: back to receiving)
    infer    ready     -> running -> done | refused | retry-wait -> running ... | failed
    derive   ready     -> running -> done | retry-wait -> running ... | failed
    deliver  ready     -> sending -> done | retry-wait -> sending ... | failed
             sending   -> committing -> sending                         (a report came, or none in time)
             held      -> ready                                         (a result that somebody should look at first)
    fetch    ready     -> running -> done | retry-wait -> running ... | failed
    commit   ready     -> running -> done | retry-wait -> running ... | failed
    replay   ready     -> running -> done | failed

A job that is done becomes `ready` again when what it made is missing or damaged and a later job needs it, or when an
administrator has a delivery sent again.
"""

from enum import StrEnum


class Kind(StrEnum):
    MATCH = "match"
    INFER = "infer"
    DERIVE = "derive"
    DELIVER = "deliver"
    FETCH = "fetch"
    COMMIT = "commit"
    REPLAY = "replay"


class State(StrEnum):
    RECEIVING = "receiving"
    """Instances of the study are still arriving."""
    WAITING_PAIR = "waiting-pair"
    """The study has a target without a reference, or the reverse."""
    READY = "ready"
    RUNNING = "running"
    SENDING = "sending"
    COMMITTING = "committing"
    """All is sent, and the destination was asked to commit it; `next_attempt_at` says until when its report is awaited.
    No worker holds the job meanwhile: a report makes it due at once."""
    RETRY_WAIT = "retry-wait"
    """An attempt failed in a way that may pass, or the job waits for what an earlier one makes again. `next_attempt_at` says
    when it is tried again."""
    HELD = "held"
    """Kept back until an administrator releases it."""
    DONE = "done"
    REFUSED = "refused"
    """The study is not one the model was made for. Never retried by itself."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    """By an administrator, or superseded because the series it was made from changed; the latter is taken up again when
    a later match asks for it."""


S = State

LEASED = frozenset({S.RUNNING, S.SENDING})
"""A worker holds the job under a lease."""

CLAIMABLE = frozenset({S.RECEIVING, S.WAITING_PAIR, S.READY, S.COMMITTING, S.RETRY_WAIT})
"""A worker may take the job once `next_attempt_at` has come."""

FINISHED = frozenset({S.DONE, S.REFUSED, S.FAILED, S.CANCELLED})

CLAIMED_AS = {kind: S.SENDING if kind is Kind.DELIVER else S.RUNNING for kind in Kind}

TRANSITIONS: dict[State, frozenset[State]] = {
    S.RECEIVING: frozenset({S.RECEIVING, S.RUNNING, S.HELD, S.CANCELLED}),
    S.WAITING_PAIR: frozenset({S.RECEIVING, S.RUNNING, S.READY, S.HELD, S.CANCELLED}),
    S.READY: frozenset({S.RECEIVING, S.RUNNING, S.SENDING, S.HELD, S.CANCELLED}),
    S.RUNNING: frozenset(
        {S.RECEIVING, S.WAITING_PAIR, S.READY, S.RETRY_WAIT, S.HELD, S.DONE, S.REFUSED, S.FAILED, S.CANCELLED}
    ),
    S.SENDING: frozenset({S.COMMITTING, S.READY, S.RETRY_WAIT, S.DONE, S.FAILED, S.CANCELLED}),
    S.COMMITTING: frozenset({S.SENDING, S.READY, S.HELD, S.CANCELLED}),
    S.RETRY_WAIT: frozenset({S.RECEIVING, S.RUNNING, S.SENDING, S.READY, S.HELD, S.CANCELLED}),
    S.HELD: frozenset({S.READY, S.CANCELLED}),
    S.DONE: frozenset({S.RECEIVING, S.READY}),
    S.REFUSED: frozenset({S.RECEIVING, S.READY}),
    S.FAILED: frozenset({S.RECEIVING, S.READY}),
    S.CANCELLED: frozenset({S.READY}),
}


def allowed(before: State, after: State) -> bool:
    """Whether a job may go from one state to the other."""
    return after in TRANSITIONS[before]
