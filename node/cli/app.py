"""diffmsr-node: thin commands over the packages of the node. Data goes to stdout, logs and progress go to stderr.

Exit codes: 0 ok, 1 failed, 2 usage, 3 configuration invalid, 4 not found, 5 peer unreachable or refused, 6 partly done,
7 service not running, 8 the replay differs.
"""

import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from node.cli import service, studies
from node.cli.audit import audit_app
from node.cli.config import config_app
from node.cli.db import db_app
from node.cli.doctor import doctor
from node.cli.init import init
from node.cli.options import ConfigOption
from node.cli.queue import queue_app
from node.cli.render import err, keep_lines_whole, tolerate_any_terminal
from node.cli.storage import storage_app
from node.cli.users import users_app
from node.config.loading import ENVIRONMENT_VARIABLE
from node.errors import ConfigError, NodeError
from node.telemetry.log import configure_logging

app = typer.Typer(
    help="A DICOM node that super-resolves low-resolution T2 MR series with DiffMSR. Research use only.",
    no_args_is_help=True, pretty_exceptions_enable=False,
)  # fmt: skip
for command in (
    init,
    service.start,
    service.status,
    service.version,
    service.conformance,
    service.codes,
    service.echo,
    service.demo,
    doctor,
    studies.studies,
    studies.process,
    studies.explain,
    studies.replay,
):
    app.command()(command)
app.add_typer(queue_app, name="queue")
app.add_typer(audit_app, name="audit")
app.add_typer(config_app, name="config")
app.add_typer(users_app, name="users")
app.add_typer(db_app, name="db")
app.add_typer(storage_app, name="storage")


def main() -> None:
    """The console script: every NodeError becomes its one message and its exit code."""
    tolerate_any_terminal()
    configure_logging("WARNING")
    try:
        app()
    except NodeError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        sys.exit(error.exit_code)
    except PermissionError as error:
        where = escape(str(error.filename or "a file of the node"))
        err.print(
            f"[red]error:[/] {where}: permission denied; use the account of the service, or root", highlight=False
        )
        sys.exit(ConfigError.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _version(wanted: bool) -> None:
    if wanted:
        service.version()
        raise typer.Exit


@app.callback()
def _options(
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    keep_lines_whole()
    if config is not None:
        os.environ[ENVIRONMENT_VARIABLE] = str(config)


if __name__ == "__main__":
    main()
