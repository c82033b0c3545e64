"""diffmsr-node: thin commands over the packages of the node. Data goes to stdout, logs and progress go to stderr.

Exit codes: 0 ok, 1 failed, 2 usage, 3 configuration invalid, 4 not found, 5 peer unreachable or refused, 6 partly done,
7 service not running, 8 the replay differs.
"""

import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup
from typer.main import get_command

from node.cli.console import err, keep_lines_whole, tolerate_any_terminal
from node.cli.options import ConfigOption
from node.cli.version import version
from node.config.place import ENVIRONMENT_VARIABLE
from node.errors import ConfigError, NodeError
from node.telemetry.log import configure_logging

_COMMANDS = {
    "init": "node.cli.init:init",
    "start": "node.cli.service:start",
    "status": "node.cli.service:status",
    "version": "node.cli.version:version",
    "conformance": "node.cli.service:conformance",
    "codes": "node.cli.service:codes",
    "echo": "node.cli.service:echo",
    "demo": "node.cli.service:demo",
    "doctor": "node.cli.doctor:doctor",
    "studies": "node.cli.studies:studies",
    "process": "node.cli.studies:process",
    "explain": "node.cli.studies:explain",
    "replay": "node.cli.studies:replay",
    "queue": "node.cli.queue:queue_app",
    "audit": "node.cli.audit:audit_app",
    "config": "node.cli.config:config_app",
    "users": "node.cli.users:users_app",
    "db": "node.cli.db:db_app",
    "storage": "node.cli.storage:storage_app",
}
"""Where each command is: a function, or the Typer of several."""


class _Commands(TyperGroup):
    """The commands, each loaded when somebody names it: most need few of the node's packages. (The classes of click that
    Typer has are private to it.)"""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        found = getattr(import_module(module), name)
        if not isinstance(found, typer.Typer):
            function, found = found, typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            found.command(cmd_name)(function)
        command = get_command(found)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_Commands,
    help="A DICOM node that super-resolves low-resolution T2 MR series with DiffMSR. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The console script: every NodeError becomes its one message and its exit code."""
    tolerate_any_terminal()
    os.umask(os.umask(0) | 0o027)  # what the node keeps, copies and makes is closed to other accounts
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
        version()
        raise typer.Exit


@app.callback()
def _options(
    config: ConfigOption = None,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    keep_lines_whole()
    if config is not None:
        os.environ[ENVIRONMENT_VARIABLE] = str(config)


if __name__ == "__main__":
    main()
