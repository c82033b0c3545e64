"""What the commands of the soaks have in common."""

import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def judged(name: str, run: Callable[[Path], tuple[list[str], str]], good: str) -> int:
    """Run in a folder of its own what gives what is wrong, and figures. Print both, or the good news; the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing stays behind, or mounted
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        wrong, figures = run(Path(folder))
    print(figures)
    print("\n".join(wrong) or good)
    return 1 if wrong else 0
