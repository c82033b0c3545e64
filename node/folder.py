"""A folder of files, or files that somebody gives: what is in them, and the verdict on each study. No database, no service."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom import Dataset

from node.config.settings import Settings
from node.dicom.read import InstanceFile, Readable
from node.errors import DamagedFileError, LostError, NotFoundError, StorageError
from node.match.assess import assess_study
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
