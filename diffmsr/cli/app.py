"""The application that the commands belong to, and what they have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The command line of the research side: train, measure and compare networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

WeightsOption = Annotated[
    list[Path] | None,
    typer.Option(help="Folder of weights and manifest; may be given several times. By default the shipped ones."),
]


@contextmanager
def usable(device: str) -> Iterator[None]:
    """Raises what ends the command, in one line, when torch cannot use a device."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:  # what torch raises for a device that it does not have
        raise failed(ValueError(f"cannot use device {device}: {str(error).splitlines()[0]}")) from None


def failed(error: Exception) -> typer.Exit:
    """What ends the command after a line on stderr."""
    typer.echo(f"diffmsr: {error}", err=True)
    return typer.Exit(1)
