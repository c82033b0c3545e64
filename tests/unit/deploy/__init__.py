"""What deploy/ has: each file is checked by the tool that is made for it, and by the program it configures."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import require

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"


def lint(tool: str, *arguments: object) -> str:
    """Run a tool, from the virtual environment or from the system, and fail with what it has found."""
    path = require(tool, f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    done = subprocess.run([path, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def roles_of(command: list[str]) -> list[str]:
    """What `start --role A --role B` has the program run."""
    assert command[0] == "start" and set(command[1::2]) == {"--role"}, command
    return command[2::2]
