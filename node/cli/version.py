"""Which version this is."""

from node import __version__
from node.cli.console import out


def version() -> None:
    """Print the version.

    Example: version
    """
    out.print(f"diffmsr-node {__version__} (research use only)")
