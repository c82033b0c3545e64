"""Options that commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from node.config.place import ENVIRONMENT_VARIABLE

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar=ENVIRONMENT_VARIABLE, help="Configuration file.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]


PARTLY_DONE = 6
"""Exit code."""


def actor() -> str:
    return f"admin:{os.environ.get('SUDO_USER') or os.environ.get('USER') or os.getuid()}"
