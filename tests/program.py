"""diffmsr-node as a process of its own, without what starting Python costs each time.

A server that has imported the command line forks a child per command (multiprocessing's fork server): a look at the queue
takes hundredths of a second instead of one or more, and tests look often.
"""

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

PROGRAM = Path(sys.executable).parent / "diffmsr-node"
"""The installed console script, for services that tests start, stop and kill."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["node.cli.app", "node.service", "torch"])


class Service:
    """A service that runs, as `subprocess.Popen` would show it."""

    def __init__(self, arguments: Sequence[object], log: Path, limit_files: int | None = None) -> None:
        """`log` gets what it says, `limit_files` is its limit of open files."""
        command = [str(argument) for argument in arguments]
        self._child = _CONTEXT.Process(
            target=_main, args=(command, dict(os.environ), Path.cwd(), log, log, limit_files), daemon=True
        )
        self._child.start()
        assert self._child.pid is not None
        self.pid = self._child.pid

    @property
    def returncode(self) -> int | None:
        return self._child.exitcode

    def poll(self) -> int | None:
        return self._child.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._child.kill()

    def wait(self, patience_s: float | None = None) -> int:
        self._child.join(patience_s)
        if self._child.exitcode is None:
            raise TimeoutError(f"it has not ended within {patience_s} s")
        return self._child.exitcode


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


def run_forked(target: Callable[..., None], *arguments: object) -> int | None:
    """Run a function of a module in a process of its own; its exit code."""
    child = _CONTEXT.Process(target=target, args=arguments)
    child.start()
    child.join()
    return child.exitcode


def _main(
    arguments: list[str],
    environment: dict[str, str],
    folder: Path,
    out: Path,
    err: Path,
    limit_files: int | None = None,
) -> None:
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    if limit_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit_files, limit_files))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(PROGRAM), *arguments]
    from node.cli.app import main

    main()
