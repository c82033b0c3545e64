"""The same match, infer and encode code on a folder of files: no network, no database, no service."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydicom import Dataset

from node.archive.local import write_durably
from node.config.settings import Settings
from node.derived.derive import Sources, derive
from node.dicom.read import InstanceFile, Readable
from node.errors import DamagedFileError, LostError, NodeError, NotFoundError, RefusedError, StorageError
from node.infer.engine import Engine
from node.infer.run import run
from node.match.assess import assess_study
from node.payloads import PairRequest
from node.result import Acquired
from node.tracker.states import State
from node.verdicts import StudyVerdict
from node.weights import model_facts


@dataclass(frozen=True)
class Folder:
    """The DICOM files found below a folder."""

    headers: dict[str, list[Dataset]]
    """Data sets without pixels, by study instance UID."""
    instances: dict[str, Readable]
    """By SOP instance UID."""
    skipped: list[tuple[Readable, str]]
    """What is not DICOM, or cannot be used, and why."""


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


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is in all."""


def _unseen(what: str, done: int, total: int) -> None:
    """The progress that nobody watches."""


def read_folder(folder: Path, progress: Progress = _unseen) -> Folder:
    """Find the DICOM files below `folder` (any depth, any name), also through symbolic links. NotFoundError when there is no
    such folder or no DICOM file in it; it says what the other files are."""
    if not folder.is_dir():
        raise NotFoundError(f"{folder} is not a folder")
    paths = sorted(_files_below(folder))
    found = read_all((InstanceFile(path) for path in paths if path.is_file()), progress)
    dangling = [(InstanceFile(path), "a symbolic link to nothing") for path in paths if not path.exists()]
    found = replace(found, skipped=[*found.skipped, *dangling])
    if not found.instances:
        why = "; ".join(f"{len(group)} files: {reason}" for reason, group in by_reason(found.skipped).items())
        raise NotFoundError(f"no DICOM file below {folder} ({why or 'it is empty'})")
    return found


def by_reason(skipped: Iterable[tuple[Readable, str]]) -> dict[str, list[Readable]]:
    """What was skipped, by the reason."""
    groups: dict[str, list[Readable]] = {}
    for readable, reason in skipped:
        groups.setdefault(reason, []).append(readable)
    return groups


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file, once: a link back to a folder above, or a second link to a folder, is not followed again."""
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (Path(place) / name for name in files)


def read_all(readables: Iterable[Readable], progress: Progress = _unseen) -> Folder:
    """The headers of these files. Files that are not DICOM, are damaged or repeat an instance are skipped, each with
    the reason."""
    headers: dict[str, list[Dataset]] = {}
    instances: dict[str, Readable] = {}
    skipped: list[tuple[Readable, str]] = []
    every = list(readables)
    for done, readable in enumerate(every, 1):
        progress("reading files", done, len(every))
        try:
            header = readable.read_header()
            study_uid, sop_uid = str(header.StudyInstanceUID), str(header.SOPInstanceUID)
        except DamagedFileError as error:
            skipped.append((readable, error.reason))
            continue
        except (StorageError, LostError) as error:
            skipped.append((readable, str(error)))
            continue
        except Exception:  # pydicom converts a value when it is asked for, and raises nearly anything on a damaged one
            skipped.append((readable, "DICOM, but without a study and SOP instance UID that can be read"))
            continue
        if sop_uid in instances:
            skipped.append((readable, f"has the SOP instance UID of {instances[sop_uid]}"))
            continue
        instances[sop_uid] = readable
        headers.setdefault(study_uid, []).append(header)
    return Folder(headers, instances, skipped)


def explain_all(
    readables: Iterable[Readable], settings: Settings
) -> tuple[list[StudyVerdict], list[tuple[Readable, str]]]:
    """The verdict on every study among these, and what was skipped, each with the reason."""
    found = read_all(readables)
    return explain_folder(found, settings), found.skipped


def explain_folder(folder: Folder, settings: Settings, progress: Progress = _unseen) -> list[StudyVerdict]:
    """The verdict on every study of a folder."""
    facts = model_facts(settings)
    verdicts = []
    for headers in folder.headers.values():
        verdicts.append(assess_study(headers, settings.match, facts))
        progress("matching studies", len(verdicts), len(folder.headers))
    return verdicts


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
