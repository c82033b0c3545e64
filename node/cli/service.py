"""Commands that set up, run and inspect the service."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from node.cli.access import open_tracker, settings_or_defaults
from node.cli.console import out, print_json
from node.cli.options import ConfigOption, JsonOption
from node.cli.render import status_table
from node.config.loading import load_settings
from node.config.place import find_config
from node.errors import ServiceNotRunningError
from node.telemetry.log import configure_logging
from node.tracker import overview, views
from node.tracker.status import status as status_of


def start(
    config: ConfigOption = None,
    role: Annotated[
        list[str] | None, typer.Option(help="Run only this role. Repeat the option for several roles.")
    ] = None,
) -> None:
    """Run the service in the foreground until SIGTERM or Ctrl-C. Work in progress is finished first.

    Examples: start; start --config /etc/diffmsr-node/node.toml; start --role receive --role match
    """
    from node.roles import Role
    from node.service import Service

    path = find_config(config)
    settings = load_settings(path)
    try:
        roles = [Role(name) for name in role] if role else list(Role)
    except ValueError:
        raise typer.BadParameter(f"roles are {', '.join(Role)}", param_hint="--role") from None
    configure_logging(settings.node.log_level)
    Service(settings, path, roles).run()


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show whether the service runs and can work, and the state of the queue and of each destination.

    Exit code 7 when it does not run, and 1 when it is degraded, for example while a full disk refuses every instance.

    Examples: status; status --json
    """
    from node import checks
    from node.locks import running_roles

    path = find_config(config)
    settings = load_settings(path)
    database = open_tracker(settings)
    current = status_of(database, settings, running_roles(settings.node.data_dir))
    destinations = overview.destinations(database, current.destinations)
    wanted = [question for question in checks.PRECONDITIONS if question is not checks.destinations]
    degraded = [answer.says for answer in checks.run(settings, wanted) if answer.level is not checks.Level.OK]
    if as_json:
        more = {
            "config": str(path),
            "data_dir": str(settings.node.data_dir),
            "degraded": degraded,
            "deliveries": [row.to_json() for row in destinations],
        }
        print_json({"schema": views.SCHEMA, **current.to_json(), **more})
    else:
        out.print(status_table(current, path, settings.node.data_dir, overview.last_received(database), destinations))
        for sentence in degraded:
            out.print(f"[red]degraded[/]  {escape(sentence)}", highlight=False)
    if not current.running:
        raise typer.Exit(ServiceNotRunningError.exit_code)
    if degraded:
        raise typer.Exit(1)


def conformance(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the DICOM conformance statement as Markdown: for the configuration of this site, or else for the defaults.

    Examples: conformance > conformance.md; conformance --json
    """
    from node.conformance.facts import statement
    from node.conformance.markdown import markdown

    facts = statement(settings_or_defaults(config))
    if as_json:
        print_json(facts.to_json())
    else:
        sys.stdout.write(markdown(facts))


def codes(
    symptoms: Annotated[
        bool, typer.Option("--symptoms", help="Begin with what can be seen, not with the code.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print every code of a refusal or a warning as Markdown: its meaning, and what you can do.

    Examples: codes; codes --symptoms; codes --json
    """
    from node.cli.symptoms import symptoms_document
    from node.codes import CODES, codes_document

    if as_json:
        print_json({"schema": views.SCHEMA, "codes": {name: asdict(code) for name, code in CODES.items()}})
    else:
        sys.stdout.write(symptoms_document() if symptoms else codes_document())


def echo(
    destination: Annotated[str, typer.Argument(help="Name of a configured destination.")],
    config: ConfigOption = None,
) -> None:
    """Verify a destination with C-ECHO, or a DICOMweb server with a search.

    Example: echo pacs
    """
    from node.deliver.transport import verify

    settings = load_settings(find_config(config))
    peer = settings.destination(destination)
    verify(peer, settings.scp.ae_title)
    where = peer.url or f"{peer.ae_title} at {peer.host}:{peer.port}"
    out.print(escape(f"{peer.name}: {where} answers {settings.scp.ae_title}"))


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the picture and the received series.")] = Path("demo-output"),
    open_viewer: Annotated[
        bool, typer.Option("--open", help="Show the result in the viewer before the node ends.")
    ] = False,
) -> None:
    """Run a shipped study from a scanner through the node to a PACS; print figures and write a before/after picture.

    Examples: demo; demo --output /tmp/demo --open
    """
    from node.demo.demo import run_demo

    run_demo(output, out, open_viewer)
