"""diffmsr-node: thin commands over the rooms of the node. Data goes to stdout, logs and progress to stderr.

Exit codes: 0 ok, 1 failed, 2 usage, 3 configuration invalid, 4 not found, 5 peer unreachable or refused, 6 partly done,
7 service not running, 8 replayed with another result.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from node import __version__
from node.archive.facade import Archive
from node.archive.local import write_durably
from node.config.loading import ENVIRONMENT_VARIABLE, find_config, load_settings, template
from node.config.settings import Settings
from node.errors import ConfigError, NodeError, NotFoundError, ServiceNotRunningError
from node.telemetry.log import configure_logging
from node.tracker import administration, views
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.states import Kind, State

PARTLY_DONE, DIFFERENT = 6, 8

app = typer.Typer(
    help="A DICOM node that super-resolves low-resolution T2 MR series with DiffMSR. Research use only.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
queue_app = typer.Typer(help="Look at the queue, and move single jobs.", no_args_is_help=True)
config_app = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)
app.add_typer(queue_app, name="queue")
app.add_typer(config_app, name="config")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar=ENVIRONMENT_VARIABLE, help="Configuration file.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def main() -> None:
    """The console script: every NodeError becomes its one message and its exit code."""
    configure_logging("WARNING")
    try:
        app()
    except NodeError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


@app.callback()
def _options(config: ConfigOption = None) -> None:
    if config is not None:
        os.environ[ENVIRONMENT_VARIABLE] = str(config)


# ---------------------------------------------------------------------- set up and run


@app.command()
def init(
    config: ConfigOption = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where instances and the tracker are kept.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a configuration that is there.")] = False,
) -> None:
    """Write a commented configuration, and make the data folder and the tracker."""
    path = config or Path("node.toml")
    if path.exists() and not force:
        raise ConfigError(f"{path} is there already; edit it, or replace it with --force")
    text = template()
    if data_dir is not None:
        text = text.replace('data_dir = "/var/lib/diffmsr-node"', f"data_dir = {json.dumps(str(data_dir.absolute()))}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    settings = load_settings(path.resolve())
    database = Database(settings.node.url)
    database.upgrade()
    out.print(f"configuration  {escape(str(path))}")
    out.print(f"data folder    {escape(str(settings.node.data_dir))}")
    out.print(
        escape(
            "next: set [scp] ae_title and [[destinations]] there, then: diffmsr-node config check; diffmsr-node start"
        )
    )


@app.command()
def start(
    config: ConfigOption = None,
    role: Annotated[list[str] | None, typer.Option(help="Run only this role; repeat for several.")] = None,
) -> None:
    """Run the service in the foreground until SIGTERM or Ctrl-C; what is in hand is finished first."""
    from node.service import Role, Service

    path = find_config(config)
    settings = load_settings(path)
    try:
        roles = [Role(name) for name in role] if role else list(Role)
    except ValueError:
        raise typer.BadParameter(f"roles are {', '.join(Role)}", param_hint="--role") from None
    configure_logging(settings.node.log_level)
    Service(settings, path, roles).run()


@app.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Is the service running, and how is the queue? Exit code 7 when it is not running."""
    from node.service import running_roles

    settings = load_settings(find_config(config))
    roles = running_roles(settings.node.data_dir)
    database = _tracker(settings)
    received = views.totals(database)
    facts = {
        "schema": views.SCHEMA,
        "running": bool(roles),
        "version": __version__,
        "roles": roles,
        "scp": {"ae_title": settings.scp.ae_title, "host": settings.scp.host, "port": settings.scp.port},
        "destinations": [d.name for d in settings.destinations],
        "received": received,
        "jobs": views.counts(database),
    }
    if as_json:
        _print_json(facts)
    else:
        table = Table(show_header=False, box=None)
        since = min((str(r.get("since", "?")) for r in roles.values()), default="")
        table.add_row("service", f"running since {since}: {', '.join(roles)}" if roles else "[red]not running[/]")
        table.add_row("version", f"{__version__} (research use only)")
        table.add_row("listening as", f"{settings.scp.ae_title} on {settings.scp.host}:{settings.scp.port}")
        table.add_row("destinations", ", ".join(d.name for d in settings.destinations) or "none")
        table.add_row(
            "received",
            f"studies {received['studies']}, series {received['series']}, instances {received['instances']}, "
            f"{received['bytes'] / 1e6:.1f} MB",
        )
        for kind, states in views.counts(database).items():
            table.add_row(f"{kind} jobs", ", ".join(f"{n} {s}" for s, n in sorted(states.items())) or "none")
        out.print(table)
    if not roles:
        raise typer.Exit(ServiceNotRunningError.exit_code)


@app.command()
def version() -> None:
    """Print the version."""
    out.print(f"diffmsr-node {__version__} (research use only)")


@app.command()
def conformance(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the DICOM conformance statement, as Markdown: of this site's configuration, else of the defaults."""
    from node.conformance.statement import markdown, statement

    facts = statement(_settings_or_defaults(config))
    if as_json:
        _print_json(facts)
    else:
        sys.stdout.write(markdown(facts))


@app.command()
def echo(
    destination: Annotated[str, typer.Argument(help="Name of a configured destination.")],
    config: ConfigOption = None,
) -> None:
    """Verify a destination with C-ECHO."""
    from node.deliver.scu import echo as c_echo

    settings = load_settings(find_config(config))
    peer = settings.destination(destination)
    c_echo(peer, settings.scp.ae_title)
    out.print(f"{peer.name}: {peer.ae_title} at {peer.host}:{peer.port} answers C-ECHO to {settings.scp.ae_title}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where the picture and the received series go.")] = Path("demo-output"),
) -> None:
    """Show the whole way on a shipped study: scanner, node, PACS; figures and a before/after picture."""
    from node.demo.demo import run_demo

    run_demo(output, out)


# ---------------------------------------------------------------------- studies


@app.command()
def process(
    folder: Annotated[Path, typer.Argument(help="Folder with DICOM files, at any depth.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where derived series go: STUDY/SERIES/SOP.dcm.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Match, super-resolve and encode the studies of a folder, without network or service."""
    from node.offline import as_json as processed_json
    from node.offline import process_folder, read_folder

    settings = _settings_or_defaults(config)
    configure_logging("WARNING")
    found = read_folder(folder)
    with _progress_bar(as_json) as progress:
        processed = list(process_folder(found, output, settings, progress))
    if as_json:
        skipped = [{"path": str(path), "why": why} for path, why in found.skipped]
        _print_json({"schema": views.SCHEMA, "results": [processed_json(p) for p in processed], "skipped": skipped})
    else:
        for item in processed:
            where = f" -> {escape(str(item.output))}" if item.output else ""
            code = f"{item.code}: " if item.code else ""
            out.print(f"[b]{item.state}[/] study {item.study_uid}{where}\n  {escape(code + item.sentence)}")
        _print_skipped(found.skipped)
    done = sum(item.state == "done" for item in processed)
    if done < len(processed):
        raise typer.Exit(PARTLY_DONE if done else 1)


@app.command()
def explain(
    study: Annotated[str, typer.Argument(help="Study instance UID of a received study, or a folder with DICOM files.")],
    config: ConfigOption = None,
    short: Annotated[bool, typer.Option("--short", help="Leave out the questions that were answered well.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What was decided on a study, why, and what one could do; then every question asked, and its answer."""
    from node.match.explanation import lines

    verdicts: list[dict[str, Any]]
    skipped: list[tuple[Path, str]] = []
    if Path(study).is_dir():
        from node.offline import explain_folder, read_folder

        found = read_folder(Path(study))
        verdicts = [v.to_json() for v in explain_folder(found, _settings_or_defaults(config))]
        skipped = found.skipped
    else:
        settings = load_settings(find_config(config))
        database = _tracker(settings)
        jobs = views.study_history(database, Archive(settings.node.data_dir), study)
        verdicts = [views.verdict(database, study) | {"jobs": jobs}]
    if as_json:
        _print_json({"schema": views.SCHEMA, "studies": verdicts})
        return
    for number, verdict in enumerate(verdicts):
        if number:
            out.print()
        since = [_became(job) for job in verdict.get("jobs", [])]
        for line in lines(verdict, afterwards=since, passed=not short, width=_width()):
            out.print(escape(line), highlight=False)
    _print_skipped(skipped)


def _became(job: dict[str, Any]) -> str:
    """One job in a line: what it is, how it stands, what was measured."""
    where = f" to {job['destination']}" if job["destination"] else ""
    again = f"; next attempt {job['next_attempt_at'][:19]}Z" if job["next_attempt_at"] else ""
    said = f"{job['kind']}{where}: {job['state']}{again}. {job['why'] or ''}"
    if job["quality"] is None:
        return said
    quality = job["quality"]
    grade = "usable" if quality["usable"] else f"not usable: {' '.join(quality['reasons'])}"
    registration = quality["registration"]
    if registration is None:
        return f"{said}. Residual shift not measured. Graded {grade}"
    along_row, along_column = registration["shift_mm"]
    dealt = "corrected" if registration["corrected"] else "not corrected"
    shift = f"{along_row:.2f} mm along rows, {along_column:.2f} mm along columns, {registration['rotation_deg']:.2f} degrees"
    return f"{said}. Residual shift of the reference: {shift}, {dealt}. Graded {grade}"


@app.command()
def replay(
    study: Annotated[str, typer.Argument(help="Study instance UID of a received study, or a folder with DICOM files.")],
    against: Annotated[
        Path | None, typer.Option(help="With a folder: what `process` made of it before.", show_default=False)
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Weights to use instead of the configured ones.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Keep what is made: STUDY/SERIES/SOP.dcm. Else it is discarded."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a study again and say what differs from what was kept: answers of the matching, bytes, pixels, settings.

    Nothing is sent, and neither archive nor tracker is changed.

    Exit code 0 when all is the same, byte for byte; 8 when something differs.
    """
    from node.offline import read_folder
    from node.replay.replay import replay_folder, replay_study

    folder = Path(study)
    if folder.is_dir() != (against is not None):
        raise typer.BadParameter("goes with a folder of sources, and only with one", param_hint="--against")
    settings = _settings_or_defaults(config) if folder.is_dir() else load_settings(find_config(config))
    if model is not None:
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"path": model.resolve()})})
    configure_logging("WARNING")
    with tempfile.TemporaryDirectory(prefix="diffmsr-replay-") as scratch, _progress_bar(as_json) as progress:
        place = output or Path(scratch)
        if against is not None:
            replays = list(replay_folder(read_folder(folder), against, settings, place, progress))
        else:
            archive = Archive(settings.node.data_dir)
            replays = [replay_study(_tracker(settings), archive, study, settings, place, progress)]
    if as_json:
        _print_json({"schema": views.SCHEMA, "studies": [replay.to_json() for replay in replays]})
    else:
        from node.match.explanation import wrapped
        from node.replay.replay import lines

        for each in replays:
            for text in lines(each):
                for line in wrapped(text, _width()):
                    out.print(escape(line), highlight=False)
    if not all(each.identical for each in replays):
        raise typer.Exit(DIFFERENT)


# ---------------------------------------------------------------------- queue


@queue_app.command("list")
def queue_list(
    config: ConfigOption = None,
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only jobs of this kind.")] = None,
    study: Annotated[str | None, typer.Option(help="Only jobs of this study instance UID.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Every job: a study to match, a pair to infer, a result to deliver."""
    rows = views.jobs(_tracker(load_settings(find_config(config))), state, kind, study)
    if as_json:
        _print_json({"schema": views.SCHEMA, "jobs": rows})
        return
    table = Table(
        "id", "kind", "state", Column("study", overflow="fold"), "tries", "progress", "next attempt", "what it says"
    )
    for row in rows:
        done, total = row["progress"]
        table.add_row(
            str(row["id"]), row["kind"], row["state"], row["study_uid"], f"{row['attempts']}/{row['max_attempts']}",
            f"{done}/{total}" if total else "", (row["next_attempt_at"] or "")[:19], escape(row["summary"] or row["destination"] or ""),
        )  # fmt: skip
    out.print(table if rows else "the queue is empty")


@queue_app.command("show")
def queue_show(
    job: Annotated[int, typer.Argument(help="Job id.")], config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """One job with its history and, for a delivery, every instance's status."""
    facts = views.job(_tracker(load_settings(find_config(config))), job)
    if as_json:
        _print_json({"schema": views.SCHEMA, "job": facts})
        return
    table = Table(show_header=False, box=None)
    for name in ("id", "kind", "state", "study_uid", "target_series_uid", "reference_series_uid", "error", "worker"):
        if facts[name] is not None:
            table.add_row(name.replace("_", " "), escape(str(facts[name])))
    table.add_row("attempts", f"{facts['attempts']} of {facts['max_attempts']}")
    out.print(table)
    history = Table("at", "who", "from", "to", "why")
    for event in facts["events"]:
        history.add_row(event["at"], event["actor"], event["from"] or "", event["to"], escape(event["why"]))
    out.print(history)
    if facts["instances"]:
        instances = Table("SOP instance", "accepted", "the peer's last answer")
        for row in facts["instances"]:
            instances.add_row(
                row["sop_uid"], "yes" if row["accepted"] else "no", escape(row["status"] or "not sent yet")
            )
        out.print(instances)


@queue_app.command("report")
def queue_report(
    job: Annotated[int, typer.Argument(help="Id of an infer or deliver job.")],
    config: ConfigOption = None,
    html: Annotated[Path | None, typer.Option(help="Write the page there.")] = None,
) -> None:
    """Where the report on a result lies: what was measured, every warning, what it was made from. It is there before
    the result is delivered, so that a held one can be judged."""
    from node.derived.derive import derive
    from node.derived.worker import gather_sources

    settings = load_settings(find_config(config))
    database, archive = _tracker(settings), Archive(settings.node.data_dir, settings.storage.reserve_gb)
    key, request = views.result_of(database, job)
    if not archive.has_result(key):
        raise NotFoundError(f"job {job} has no result yet, so nothing to report; see: diffmsr-node queue show {job}")
    page = archive.report_page(key)
    if html is not None:
        if page.exists():
            content = page.read_bytes()
        else:
            content = derive(archive.open_result(key), gather_sources(database, request), settings).page.encode()
        write_durably(html.absolute(), content)
    elif not page.exists():
        raise NotFoundError(f"the report of job {job} is not written yet; write one now with: --html FILE")
    out.print(escape(str(html or page)), highlight=False)


@queue_app.command("retry")
def queue_retry(job: Annotated[int, typer.Argument(help="Job id.")], config: ConfigOption = None) -> None:
    """Try a failed, refused, cancelled or waiting job again now."""
    administration.retry(Tracker(_tracker(load_settings(find_config(config)))), job, _actor())
    out.print(f"job {job} is ready")


@queue_app.command("hold")
def queue_hold(job: Annotated[int, typer.Argument(help="Job id.")], config: ConfigOption = None) -> None:
    """Keep a job that is not running from going on, until it is released."""
    administration.hold(Tracker(_tracker(load_settings(find_config(config)))), job, _actor())
    out.print(f"job {job} is held")


@queue_app.command("release")
def queue_release(job: Annotated[int, typer.Argument(help="Job id.")], config: ConfigOption = None) -> None:
    """Let a held job go on its way, such as the delivery of a result that was graded not usable."""
    administration.release(Tracker(_tracker(load_settings(find_config(config)))), job, _actor())
    out.print(f"job {job} is ready")


@queue_app.command("cancel")
def queue_cancel(
    job: Annotated[int, typer.Argument(help="Job id.")],
    config: ConfigOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Stop a job that is not running. It can be retried later."""
    database = _tracker(load_settings(find_config(config)))
    facts = views.job(database, job)
    if dry_run:
        out.print(f"would cancel job {job} ({facts['kind']}, {facts['state']})")
        return
    if not yes and not typer.confirm(f"cancel job {job} ({facts['kind']}, {facts['state']})?"):
        raise typer.Exit(1)
    administration.cancel(Tracker(database), job, _actor())
    out.print(f"job {job} is cancelled")


# ---------------------------------------------------------------------- configuration


@config_app.command("check")
def config_check(config: ConfigOption = None) -> None:
    """Read the configuration and the model's manifest, and say what is wrong."""
    from node import checks

    path = find_config(config)
    settings = load_settings(path)
    answers = checks.ask(settings, (checks.tracker_place, checks.model, checks.destinations))
    for answer in answers:
        if answer.level is checks.Level.FAIL:
            raise ConfigError(answer.says)
    model = next(answer for answer in answers if answer.name == "model")
    out.print(f"{escape(str(path))} is valid; model {model.sentence}, {len(settings.destinations)} destinations")
    for answer in answers:
        if answer.level is checks.Level.WARN:
            out.print(f"[yellow]warning:[/] {escape(answer.says)}")


@config_app.command("show")
def config_show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The configuration as it is in force: file, environment and defaults together; passwords masked."""
    settings = load_settings(find_config(config))
    values = to_jsonable_python(settings.model_dump())
    values["node"]["database_url"] = _masked(settings)
    if as_json:
        _print_json(values)
        return
    for section, keys in values.items():
        for index, table in enumerate(keys if isinstance(keys, list) else [keys or {}]):
            heading = f"[[{section}]] #{index + 1}" if isinstance(keys, list) else f"[{section}]"
            out.print(escape(heading), highlight=False)
            for key, value in table.items():
                out.print(escape(f"  {key} = {json.dumps(value)}"), highlight=False)


# ---------------------------------------------------------------------- helpers


def _tracker(settings: Settings) -> Database:
    """The tracker, for reading: it must be there and of this version."""
    sqlite = settings.node.data_dir / "tracker.sqlite3"
    if settings.node.url == f"sqlite:///{sqlite}" and not sqlite.exists():
        raise ServiceNotRunningError(f"there is no tracker at {sqlite} yet; start the service with: diffmsr-node start")
    database = Database(settings.node.url)
    current, expected = database.revision()
    if current != expected:
        raise NodeError(
            f"the tracker is at schema {current}, this version expects {expected}; diffmsr-node start upgrades it"
        )
    return database


def _settings_or_defaults(config: Path | None) -> Settings:
    """`process` and `explain` on a folder need no configuration; one that is named or found is used."""
    try:
        path = find_config(config)
    except ConfigError:
        if config is not None:
            raise
        return Settings()
    return load_settings(path)


def _masked(settings: Settings) -> str:
    from sqlalchemy import make_url

    return make_url(settings.node.url).render_as_string(hide_password=True)


def _actor() -> str:
    return f"admin:{os.environ.get('SUDO_USER') or os.environ.get('USER') or os.getuid()}"


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _width() -> int | None:
    """Of the terminal; None, for lines as long as they are, when something else reads them."""
    return out.width if out.is_terminal else None


def _print_skipped(skipped: list[tuple[Path, str]]) -> None:
    for path, why in skipped[:20]:
        err.print(f"[yellow]skipped[/] {escape(str(path))}: {escape(why)}")
    if len(skipped) > 20:
        err.print(f"[yellow]skipped[/] {len(skipped) - 20} more files")


@contextmanager
def _progress_bar(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    from rich.progress import Progress, TaskID

    with Progress(console=err, disable=quiet or not sys.stderr.isatty(), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(series_uid: str, done: int, total: int) -> None:
            if series_uid not in tasks:
                tasks[series_uid] = bar.add_task(f"series {series_uid}", total=total)
            bar.update(tasks[series_uid], completed=done)

        yield progress


if __name__ == "__main__":
    main()
