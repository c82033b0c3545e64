"""A pair whose result was delivered is kept: "first good pair wins"."""

from collections.abc import Iterable, Sequence

from node.match.choice import AssessedPair, AssessedTarget
from node.match.stacks import Stack
from node.payloads import PairRequest, StackRequest


def keep_delivered(
    chosen: AssessedTarget, pairs: Sequence[AssessedPair], delivered: Iterable[PairRequest]
) -> AssessedTarget:
    """The choice for a target, or the pair of it that was delivered before, if that still passes and both of its series
    are as they were. Of several the latest; `delivered` are oldest first. Then another reference, however good, changes
    nothing that people have seen."""
    for request in reversed(list(delivered)):
        for pair in pairs:
            if pair.passes and _is(pair.target.stack, request.target) and _is(pair.reference.stack, request.reference):
                if chosen.chosen is pair:
                    return chosen
                label, better = pair.reference.stack.label, chosen.chosen
                other = "" if better is None else f" {better.reference.stack.label} came later."
                reason = f"{label} is kept: a result with it was delivered already.{other}"
                return AssessedTarget(chosen.target, pair, (reason,))
    return chosen


def _is(stack: Stack, request: StackRequest) -> bool:
    frames = tuple(frame for frame in stack.frames if frame is not None) or None
    return (stack.series_uid, stack.sop_uids, frames) == (request.series_uid, request.sop_uids, request.frames)
