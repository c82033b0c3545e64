"""Commands on studies: process a folder, explain a verdict, replay a study."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from node.archive.facade import Archive
from node.cli.access import acting, open_tracker, settings_or_defaults
from node.cli.console import out, print_json, print_lines, print_skipped, progress_bar, terminal_width
from node.cli.lists import print_studies
from node.cli.options import PARTLY_DONE, ConfigOption, JsonOption, actor
from node.cli.render import conflict_line, job_lines
from node.config.loading import load_settings
from node.config.place import find_config
from node.errors import NotFoundError
from node.telemetry.log import configure_logging
from node.tracker import listing, views
from node.tracker.audit import Action, Detail, audit
from node.tracker.listing import LARGEST_PAGE, StudyFilter
from node.tracker.states import State
from node.tracker.studies import StudyState

DIFFERENT = 8


def studies(
    text: Annotated[
        list[str] | None,
        typer.Argument(help="Patient ID, name, accession number, study date, description or the beginning of a UID."),
    ] = None,
    config: ConfigOption = None,
    state: Annotated[StudyState | None, typer.Option(help="Only studies in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=LARGEST_PAGE, help="Show so many at most, the newest.")] = 50,
    phi: Annotated[bool, typer.Option("--phi", help="Show who the patients are. The audit trail says so.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List received studies, the newest first.

    Examples: studies; studies doe 2026-11-22; studies --state "waiting for its partner"
    """
    settings = load_settings(find_config(config))
    database = open_tracker(settings)
    wanted = StudyFilter(state=state, text=" ".join(text or []))
    page = listing.studies(database, wanted, phi=True, size=limit)  # found by name, and masked unless asked for
    if phi:
        details: dict[str, Detail] = {"what": "list of studies", "studies": len(page.rows)}
        audit(acting(settings), Action.VIEWED, actor(), details=details)
    else:
        hidden = {"patient_name": None, "patient_id": None, "accession_number": None}
        page = page.model_copy(update={"rows": tuple(row.model_copy(update=hidden) for row in page.rows)})
    if as_json:
        rows = [row.to_json() for row in page.rows]
        print_json({"schema": views.SCHEMA, "total": page.total, "studies": rows})
    else:
        print_studies(page, phi)


def process(
    folder: Annotated[Path, typer.Argument(help="Folder with DICOM files, at any depth.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for derived series: STUDY/SERIES/SOP.dcm.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Match, super-resolve and encode the studies of a folder, without network or service.

    Examples: process /data/study --output /data/results; process study -o results --json
    """
    from node.folder import by_reason, read_folder
    from node.offline import process_folder

    settings = settings_or_defaults(config)
    configure_logging("WARNING")
    with progress_bar(as_json) as progress:
        found = read_folder(folder, progress)
        processed = list(process_folder(found, output, settings, progress))
    if as_json:
        skipped = [{"path": str(where), "why": why} for where, why in found.skipped]
        print_json({"schema": views.SCHEMA, "results": [item.to_json() for item in processed], "skipped": skipped})
    else:
        for item in processed:
            where = f" -> {escape(str(item.output))}" if item.output else ""
            code = f"{item.code}: " if item.code else ""
            out.print(f"[b]{item.state}[/] study {item.study_uid}{where}\n  {escape(code + item.sentence)}")
        print_skipped(by_reason(found.skipped))
    done = sum(item.state is State.DONE for item in processed)
    if done < len(processed):
        raise typer.Exit(PARTLY_DONE if done else 1)


def explain(
    study: Annotated[str, typer.Argument(help="Study instance UID of a received study, or a folder with DICOM files.")],
    config: ConfigOption = None,
    short: Annotated[bool, typer.Option("--short", help="Leave out the questions that passed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what was decided on a study, why, and what you can do; then every question and its answer.

    Examples: explain 1.2.840.113619.2.1; explain /data/study --short
    """
    from node.match.explanation import lines

    if Path(study).is_dir():
        from node.folder import by_reason, explain_folder, read_folder

        with progress_bar(as_json) as progress:
            found = read_folder(Path(study), progress)
            verdicts = explain_folder(found, settings_or_defaults(config), progress)
        if as_json:
            skipped = [{"path": str(where), "why": why} for where, why in found.skipped]
            _print_studies([verdict.to_json() for verdict in verdicts], skipped=skipped)
            return
        for number, verdict in enumerate(verdicts):
            if number:
                out.print()
            print_lines(lines(verdict, passed=not short, width=terminal_width()))
        print_skipped(by_reason(found.skipped))
    elif "/" in study:  # no UID has it
        raise NotFoundError(f"{study} is not a folder")
    else:
        settings = load_settings(find_config(config))
        database = open_tracker(settings)
        study_uid = listing.find_study(database, study)
        history = views.study_history(database, Archive.of(settings, make=False), study_uid)
        if as_json:
            _print_studies(
                [
                    history.verdict.to_json()
                    | {"jobs": [job.to_json() for job in history.jobs], "conflicts": history.conflicts}
                ]
            )
            return
        since = [line for job in history.jobs for line in job_lines(job)]
        since += [conflict_line(*conflict) for conflict in history.conflicts.items()]
        print_lines(lines(history.verdict, afterwards=since, passed=not short, width=terminal_width()))


def replay(
    study: Annotated[str, typer.Argument(help="Study instance UID of a received study, or a folder with DICOM files.")],
    against: Annotated[
        Path | None, typer.Option(help="With a folder: the output of an earlier `process`.", show_default=False)
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Weights to use instead of the configured ones.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Keep the new instances there: STUDY/SERIES/SOP.dcm. By default they are discarded."
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a study again and report what differs from the kept result: answers of the matching, bytes, pixels, settings.

    Nothing is sent, and neither archive nor tracker is changed.

    Exit code 0 when everything is the same, byte for byte; 8 when something differs.

    Examples: replay 1.2.840.113619.2.1; replay study --against results --model weights/new
    """
    from node.folder import read_folder
    from node.match.explanation import wrapped
    from node.replay.replay import replay_folder, replay_study
    from node.replay.text import replay_lines

    folder = Path(study)
    if folder.is_dir() != (against is not None):
        raise typer.BadParameter("is needed with a folder of sources, and only with a folder", param_hint="--against")
    settings = settings_or_defaults(config) if folder.is_dir() else load_settings(find_config(config))
    if model is not None:
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"path": model.resolve()})})
    configure_logging("WARNING")
    with tempfile.TemporaryDirectory(prefix="diffmsr-replay-") as scratch, progress_bar(as_json) as progress:
        place = output or Path(scratch)
        if against is not None:
            replays = list(replay_folder(read_folder(folder, progress), against, settings, place, progress))
        else:
            archive = Archive.of(settings, make=False)
            database = open_tracker(settings)
            study_uid = listing.find_study(database, study)
            replays = [replay_study(database, archive, study_uid, settings, place, progress)]
    if as_json:
        _print_studies([each.to_json() for each in replays])
    else:
        width = terminal_width()
        print_lines(line for each in replays for text in replay_lines(each) for line in wrapped(text, width))
    if not all(each.identical for each in replays):
        raise typer.Exit(DIFFERENT)


def _print_studies(studies: list[dict[str, Any]], **more: object) -> None:
    print_json({"schema": views.SCHEMA, "studies": studies, **more})
