"""The infer stage as one function: a pair and its instances in, a result out. It writes nothing, and every caller gets the
same pixels for the same pair."""

from collections.abc import Callable, Mapping

from node.dicom.read import Readable
from node.errors import NotFoundError
from node.infer.engine import Engine, SuperResolved
from node.infer.volume import Volume, read_volume
from node.payloads import PairRequest, StackRequest


def run(
    request: PairRequest,
    instances: Mapping[str, Readable],
    engine: Engine,
    max_matrix: int,
    progress: Callable[[int, int], None],
) -> SuperResolved:
    """Super-resolve the target of a pair, guided by its reference.

    `instances` has each by its SOP instance UID, in a folder or in the archive. Rows or columns above `max_matrix`
    ([match.stack] max_matrix) mean a damaged header. `progress` is called with (slices done, slices in all) before the
    first batch and after each; an exception that it raises ends the work. Raises RefusedError when the pixels cannot be
    used or the two stacks do not fit, NotFoundError when an instance is missing, and what reading an instance raises.
    """
    target, reference = (_volume(stack, instances, max_matrix) for stack in (request.target, request.reference))
    return engine.super_resolve(target, reference, request, progress)


def _volume(stack: StackRequest, instances: Mapping[str, Readable], max_matrix: int) -> Volume:
    missing = [uid for uid in stack.sop_uids if uid not in instances]
    if missing:
        raise NotFoundError(f"instance {missing[0]} of series {stack.series_uid} is missing; {len(missing)} in all")
    return read_volume([instances[uid] for uid in stack.sop_uids], stack.frames, max_matrix)
