"""The command line of the research side: `training` makes weights, `measuring` measures them."""

import sys

import typer

from diffmsr.cli import measuring, training
from diffmsr.cli.app import app
from diffmsr.memory import keep_freed_memory

__all__ = ["app", "main", "measuring", "training"]


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script."""
    keep_freed_memory()
    try:
        app(arguments)
    except ModuleNotFoundError as error:
        if error.name not in ("nibabel", "h5py", "tensorboard"):
            raise
        typer.echo(f"diffmsr: {error.name} is missing: pip install 'diffmsr-node[train]'", err=True)
        sys.exit(1)
