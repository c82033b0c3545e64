"""diffmsr-node as a process of its own, without what starting Python costs each time.

A server that has imported the command line forks a child per command (multiprocessing's fork server): a look at the queue
takes hundredths of a second instead of one or more, and tests look often.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PROGRAM = Path(sys.executable).parent / "diffmsr-node"
"""The installed console script, for services that tests start, stop and kill."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["node.cli.app", "torch"])


def run_program(
    arguments: Sequence[object], environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, with its environment added to this one's; its exit code, stdout and stderr."""
    command = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "stdout"), Path(folder, "stderr")
        child = _CONTEXT.Process(target=_main, args=(command, os.environ | (environment or {}), Path.cwd(), out, err))
        child.start()
        child.join()
        assert child.exitcode is not None
        return subprocess.CompletedProcess([PROGRAM, *command], child.exitcode, out.read_text(), err.read_text())


def _main(arguments: list[str], environment: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(PROGRAM), *arguments]
    from node.cli.app import main

    main()
