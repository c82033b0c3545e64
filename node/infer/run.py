"""The infer stage as one function: a pair and its files in, a result out. It writes nothing, and every caller gets the same
pixels for the same pair."""

from collections.abc import Callable, Mapping
from pathlib import Path

from node.errors import NotFoundError
from node.infer.engine import Engine
from node.infer.volume import Volume, read_volume
from node.payloads import PairRequest, StackRequest
from node.result import Result


def run(
    request: PairRequest, files: Mapping[str, Path], engine: Engine, progress: Callable[[int, int], None]
) -> Result:
    """Super-resolve the target of a pair, guided by its reference.

    `files` has the file of each instance by its SOP instance UID. `progress` is called with (slices done, slices in all)
    before the first batch and after each; an exception that it raises ends the work. Raises RefusedError when the pixels
    cannot be used or the two stacks do not fit, NotFoundError when an instance is missing, and what reading a file raises.
    """
    target, reference = (_volume(stack, files) for stack in (request.target, request.reference))
    return engine.super_resolve(target, reference, request, progress)


def _volume(stack: StackRequest, files: Mapping[str, Path]) -> Volume:
    missing = [uid for uid in stack.sop_uids if uid not in files]
    if missing:
        raise NotFoundError(f"instance {missing[0]} of series {stack.series_uid} is missing; {len(missing)} in all")
    return read_volume([files[uid] for uid in stack.sop_uids], stack.frames)
