"""Import every module of a package, so that what they register is known."""

import pkgutil
from collections.abc import Iterable
from importlib import import_module


def import_modules_of(package: str, path: Iterable[str]) -> None:
    """Import the modules and packages directly inside `package`, whose `__path__` is `path`."""
    for module in pkgutil.iter_modules(path):
        import_module(f"{package}.{module.name}")
