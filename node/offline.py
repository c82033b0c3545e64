"""The same match, infer and encode code on a folder of files: no network, no database, no service."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from node.archive.local import write_durably
from node.config.settings import Settings
from node.derived.derive import derive
from node.derived.sources import Sources
from node.errors import NodeError, RefusedError
from node.folder import Folder, Progress, explain_folder
from node.infer.engine import Engine
from node.infer.run import run
from node.payloads import PairRequest
from node.result import Acquired
from node.tracker.states import State


class Processed(BaseModel):
    """The outcome for one target, or for a study without one."""

    model_config = ConfigDict(frozen=True)

    study_uid: str
    state: Literal[State.DONE, State.REFUSED, State.FAILED]
    """The state of the job that the service would have."""
    code: str | None
    sentence: str
    target_series_uid: str | None = None
    reference_series_uid: str | None = None
    output: Path | None = None
    report: Path | None = None
    """The page."""
    instances: int = 0
    acquired: Acquired | None = None
    """How the target was found to be acquired, and what of it was undone."""

    def to_json(self) -> dict[str, Any]:
        """For `process --json`."""
        return self.model_dump(mode="json")


def process_folder(
    folder: Folder,
    output: Path,
    settings: Settings,
    progress: Progress,
    made: Sequence[PairRequest] = (),
) -> Iterator[Processed]:
    """Match, super-resolve and encode every study of a folder; derived instances go to output/STUDY/SERIES/SOP.dcm.

    `progress` is called with (target series UID, slices done, slices in all). `made` are requests of the study
    that were carried out before: series numbers go on from theirs.
    """
    engine: Engine | None = None
    for study_uid, verdict in zip(folder.headers, explain_folder(folder, settings), strict=True):
        if not verdict.requests:
            yield Processed(study_uid=study_uid, state=State.REFUSED, code=verdict.code, sentence=verdict.sentence)
        for request in verdict.requests:
            try:
                engine = engine or Engine.load(
                    settings.model, settings.registration, settings.acquisition, settings.report
                )
                yield _process_pair(folder, request, (*made, *verdict.requests), output, settings, engine, progress)
            except RefusedError as error:
                yield _without_result(request, State.REFUSED, error.code, error.sentence)
            except NodeError as error:
                yield _without_result(request, State.FAILED, None, str(error))


def _process_pair(
    folder: Folder,
    request: PairRequest,
    requests: Sequence[PairRequest],
    output: Path,
    settings: Settings,
    engine: Engine,
    progress: Progress,
) -> Processed:
    super_resolved = run(
        request,
        folder.instances,
        engine,
        settings.match.stack.max_matrix,
        lambda done, total: progress(request.target.series_uid, done, total),
    )  # fmt: skip
    result = super_resolved.result
    doubts = None if result.quality is None else result.quality.doubts
    undone = None if result.acquired is None else result.acquired.summary
    headers = folder.headers[request.study_uid]
    derived = derive(result, Sources(request, requests, headers, headers), settings)
    study = output / request.study_uid
    for instance, (sop_uid, content) in zip(derived.instances, derived.files(), strict=True):
        write_durably(study / instance.SeriesInstanceUID / f"{sop_uid}.dcm", content)
    place = study / derived.images[0].SeriesInstanceUID
    write_durably(place / "report.html", derived.page.encode())
    return Processed(
        study_uid=request.study_uid,
        state=State.DONE,
        code=None,
        sentence="; ".join(
            [f"{len(result.source_uids)} slices super-resolved", *(said for said in (undone, doubts) if said)]
        ),
        target_series_uid=request.target.series_uid,
        reference_series_uid=request.reference.series_uid,
        output=place,
        report=place / "report.html",
        instances=len(derived.images),
        acquired=result.acquired,
    )


def _without_result(
    request: PairRequest, state: Literal[State.REFUSED, State.FAILED], code: str | None, sentence: str
) -> Processed:
    return Processed(
        study_uid=request.study_uid,
        state=state,
        code=code,
        sentence=sentence,
        target_series_uid=request.target.series_uid,
        reference_series_uid=request.reference.series_uid,
    )
