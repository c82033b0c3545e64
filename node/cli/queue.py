"""Commands that inspect the queue and change single jobs."""

import time
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from node.archive.facade import Archive
from node.archive.local import write_durably
from node.cli.access import acting, open_tracker
from node.cli.console import err, out, print_json, progress_bar
from node.cli.lists import events_table, instances_table, print_queue, queue_table
from node.cli.options import PARTLY_DONE, ConfigOption, DryRunOption, JsonOption, YesOption, actor
from node.cli.render import job_table
from node.config.loading import load_settings
from node.config.place import find_config
from node.config.settings import Settings
from node.errors import NotFoundError, TransitionError
from node.tracker import administration, corrections, listing, pauses, views
from node.tracker.handle import Tracker
from node.tracker.listing import LARGEST_PAGE, JobFilter
from node.tracker.purge import purge, settled_before
from node.tracker.states import Kind, State

queue_app = typer.Typer(help="Inspect the queue and change single jobs.", no_args_is_help=True)


@queue_app.command("list")
def queue_list(
    config: ConfigOption = None,
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only jobs of this kind.")] = None,
    study: Annotated[str | None, typer.Option(help="Only jobs of this study instance UID.")] = None,
    destination: Annotated[str | None, typer.Option(help="Only deliveries to this destination.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=LARGEST_PAGE, help="Show so many at most, the newest.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List jobs: studies to match, pairs to infer, results to deliver. With --json all that match, oldest first.

    Examples: queue list --state failed; queue list --kind deliver --destination pacs --limit 200
    """
    database = open_tracker(load_settings(find_config(config)))
    if as_json:
        rows = [row for row in views.jobs(database, state, kind, study) if destination in (None, row.destination)]
        print_json({"schema": views.SCHEMA, "jobs": [row.to_json() for row in rows]})
        return
    wanted = JobFilter(kind=kind, state=state, destination=destination, text=study or "")
    everything = sum(count for states in views.job_counts(database).values() for count in states.values())
    print_queue(listing.jobs(database, wanted, phi=False, size=limit), everything)


@queue_app.command("watch")
def queue_watch(
    config: ConfigOption = None,
    limit: Annotated[int, typer.Option(min=1, max=LARGEST_PAGE, help="Show so many jobs.")] = 20,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2,
) -> None:
    """Show the newest jobs, and keep them up to date, until Ctrl-C.

    Examples: queue watch; queue watch --limit 40 --every 5
    """
    from rich.live import Live

    database = open_tracker(load_settings(find_config(config)))

    def look() -> Table:
        return queue_table(listing.jobs(database, JobFilter(), phi=False, size=limit).rows)

    with Live(look(), console=out, auto_refresh=False) as live, suppress(KeyboardInterrupt):
        while True:
            live.update(look(), refresh=True)
            time.sleep(every)


@queue_app.command("show")
def queue_show(
    job: Annotated[int, typer.Argument(help="Job id.")], config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show one job with its history and, for a delivery, the status of every instance.

    Examples: queue show 3; queue show 3 --json
    """
    detail = views.job(open_tracker(load_settings(find_config(config))), job)
    if as_json:
        print_json({"schema": views.SCHEMA, "job": detail.to_json()})
        return
    out.print(job_table(detail))
    out.print(events_table(detail.events))
    if detail.instances:
        out.print(instances_table(detail.instances))


@queue_app.command("report")
def queue_report(
    job: Annotated[int, typer.Argument(help="Id of an infer, derive or deliver job.")],
    config: ConfigOption = None,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
) -> None:
    """Print where the report on a result is: what was measured, every warning, what it was made from.

    The report is written before the result is delivered, so you can judge a held one.

    Examples: queue report 3; queue report 3 --html report.html
    """
    from node.derived.derive import derive
    from node.derived.worker import gather_sources

    settings = load_settings(find_config(config))
    database, archive = open_tracker(settings), Archive.of(settings, make=False)
    key, request = views.result_of(database, job)
    if not archive.has_result(key):
        raise NotFoundError(f"job {job} has no result yet, so nothing to report; see: diffmsr-node queue show {job}")
    if html is not None:
        if archive.has_page(key):
            content = archive.page(key)
        else:
            sources = gather_sources(Tracker(database), archive, request)
            content = derive(archive.open_result(key), sources, settings).page.encode()
        write_durably(html.absolute(), content)
    elif not archive.has_page(key):
        raise NotFoundError(f"the report of job {job} is not written yet; write one now with: --html FILE")
    out.print(escape(str(html or archive.page_location(key))), highlight=False)


@queue_app.command("retry")
def queue_retry(job: Annotated[int, typer.Argument(help="Job id.")], config: ConfigOption = None) -> None:
    """Retry a failed, refused, cancelled or waiting job now.

    Example: queue retry 3
    """
    administration.retry(acting(load_settings(find_config(config))), job, actor())
    out.print(f"job {job} is ready")


@queue_app.command("hold")
def queue_hold(job: Annotated[int, typer.Argument(help="Job id.")], config: ConfigOption = None) -> None:
    """Hold a job that is not running until it is released.

    Example: queue hold 3
    """
    administration.hold(acting(load_settings(find_config(config))), job, actor())
    out.print(f"job {job} is held")


@queue_app.command("release")
def queue_release(job: Annotated[int, typer.Argument(help="Job id.")], config: ConfigOption = None) -> None:
    """Release a held job, such as the delivery of a result that was graded not usable.

    Example: queue release 3
    """
    administration.release(acting(load_settings(find_config(config))), job, actor())
    out.print(f"job {job} is ready")


@queue_app.command("resend")
def queue_resend(
    target: Annotated[
        str, typer.Argument(metavar="JOB|STUDY", help="Id of an infer, derive or deliver job, or a study instance UID.")
    ],
    to: Annotated[str | None, typer.Option(help="Name of the destination. By default all of them.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send the result of a job, or every result of a study, whether it was sent before or not.

    Without --to a deliver job is sent to its own destination, and everything else to all destinations.

    Examples: queue resend 3; queue resend 1.2.840.113619.2.1 --to pacs
    """
    settings = load_settings(find_config(config))
    tracker, destinations = acting(settings), settings.destinations
    if target.isdecimal():
        sent = administration.resend_job(tracker, int(target), destinations, actor(), to)
    else:
        study_uid = listing.find_study(tracker.database, target)
        sent = administration.resend_study(tracker, study_uid, destinations, actor(), to)
    if as_json:
        print_json({"schema": views.SCHEMA, "deliveries": [asdict(each) for each in sent]})
        return
    for each in sent:
        out.print(escape(f"job {each.job_id} to {each.destination} is {each.state}"))


@queue_app.command("pause")
def queue_pause(
    what: Annotated[str, typer.Argument(help="inference, or the name of a destination.")], config: ConfigOption = None
) -> None:
    """Begin no more inference, or no more deliveries to a destination. It holds over restarts, until resume.

    Examples: queue pause inference; queue pause pacs
    """
    settings = load_settings(find_config(config))
    pauses.pause(acting(settings), _pausable(settings, what), actor())
    out.print(escape(f"{what} is paused; work in progress is finished"))


@queue_app.command("resume")
def queue_resume(
    what: Annotated[str, typer.Argument(help="inference, or the name of a destination.")], config: ConfigOption = None
) -> None:
    """Go on with what was paused.

    Examples: queue resume inference; queue resume pacs
    """
    settings = load_settings(find_config(config))
    pauses.resume(acting(settings), _pausable(settings, what), actor())
    out.print(escape(f"{what} goes on"))


def _pausable(settings: Settings, what: str) -> str:
    return what if what == pauses.INFERENCE else pauses.deliveries_to(settings.destination(what).name)


@queue_app.command("drop")
def queue_drop(
    target: Annotated[str, typer.Argument(metavar="STUDY|SERIES", help="Study or series instance UID.")],
    study: Annotated[str | None, typer.Option(help="Study of the series, when several studies have it.")] = None,
    config: ConfigOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Remove what was received of a study or a series, so that it can be sent again with other pixels.

    What is finished of a series stays: its results, and what was delivered. Of a study everything is removed.

    Examples: queue drop 1.2.840.113619.2.1 --dry-run; queue drop 1.2.840.113619.2.1 --yes
    """
    settings = load_settings(find_config(config))
    tracker = acting(settings)
    in_studies = corrections.studies_of_series(tracker, target)
    if len(in_studies) > 1 and study is None:
        raise NotFoundError(f"series {target} is in studies {', '.join(in_studies)}; name one with --study")
    study_uid = study or (in_studies[0] if in_studies else target)
    series_uid = target if in_studies else None
    count = corrections.stored_count(tracker, study_uid, series_uid)
    what = f"{count} instances of {'study' if series_uid is None else 'series'} {target}"
    if not count:
        raise NotFoundError(f"no study or series {target} was received")
    if dry_run:
        out.print(escape(f"would drop {what}"))
        return
    if not yes and not typer.confirm(f"drop {what}?"):
        raise typer.Exit(1)
    archive = Archive.of(settings)
    if series_uid is None:
        purge(tracker, archive, study_uid, actor())
    else:
        corrections.drop_series(tracker, archive, study_uid, series_uid, actor())
    out.print(escape(f"dropped {what}"))


@queue_app.command("purge")
def queue_purge(
    before: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="A day, as 2026-01-31, UTC.")],
    config: ConfigOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Remove finished studies whose last instance came before a day: images, results and jobs.

    What is delivered stays where it is, and the audit trail keeps its rows. A study that waits, is held or is being worked
    on stays. Exit code 6 when some could not be removed.

    Examples: queue purge --before 2026-01-31 --dry-run; queue purge --before 2026-01-31 --yes
    """
    settings = load_settings(find_config(config))
    tracker = acting(settings)
    study_uids = settled_before(tracker, before.replace(tzinfo=UTC))
    what = f"{len(study_uids)} finished studies from before {before:%Y-%m-%d}"
    if dry_run:
        out.print(f"would remove {what}")
        return
    if not study_uids:
        out.print(f"there are {what}")
        return
    if not yes and not typer.confirm(f"remove {what}?"):
        raise typer.Exit(1)
    archive = Archive.of(settings)
    refused = 0
    with progress_bar(False) as progress:
        for done, study_uid in enumerate(study_uids, 1):
            try:
                purge(tracker, archive, study_uid, actor())
            except TransitionError as error:  # work on it has begun in the meantime
                err.print(f"[yellow]kept[/] {escape(str(error))}", highlight=False)
                refused += 1
            progress("studies", done, len(study_uids))
    out.print(f"removed {len(study_uids) - refused} studies")
    if refused:
        raise typer.Exit(PARTLY_DONE)


@queue_app.command("cancel")
def queue_cancel(
    job: Annotated[int, typer.Argument(help="Job id.")],
    config: ConfigOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Cancel a job that is not running. It can be retried later.

    Examples: queue cancel 3 --dry-run; queue cancel 3 --yes
    """
    tracker = acting(load_settings(find_config(config)))
    detail = views.job(tracker.database, job)
    administration.check(tracker, job, "cancel")
    if dry_run:
        out.print(f"would cancel job {job} ({detail.kind}, {detail.state})")
        return
    if not yes and not typer.confirm(f"cancel job {job} ({detail.kind}, {detail.state})?"):
        raise typer.Exit(1)
    administration.cancel(tracker, job, actor())
    out.print(f"job {job} is cancelled")
