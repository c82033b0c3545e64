"""Replays that somebody asked for on the page: `diffmsr-node replay STUDY` as a process of its own, one at a time.

It loads the model anew and may take as long as the study did at first. It changes nothing, so it has no part in what becomes
of the study.
"""

import subprocess
import sys
from pathlib import Path

from node.errors import NodeError
from node.payloads import ReplayResult
from node.tracker.outcomes import Done, Failed, Outcome
from node.tracker.worker import Handler, Lease

SAME, DIFFERENT = 0, 8
"""Exit codes of the command."""

LOOK_EVERY_S = 0.5
MOST_LINES = 400


def make_replay_handler(config_path: Path) -> Handler:
    """A replay as a function of a lease; the job's result has the lines that the command prints."""

    def replay(lease: Lease) -> Outcome:
        command = [sys.executable, "-m", "node.cli", "replay", lease.claim.study_uid, "--config", str(config_path)]
        code, said, complaint = _run(command, lease)
        if code not in (SAME, DIFFERENT):
            return Failed(complaint.strip().splitlines()[-1] if complaint.strip() else f"the replay ended with {code}")
        lines = said.splitlines()[:MOST_LINES]
        same = code == SAME
        sentence = "the same, byte for byte" if same else "the replay differs from what was kept"
        return Done(sentence, ReplayResult(same=same, lines=tuple(lines)))

    return replay


def _run(command: list[str], lease: Lease) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command, which ends when the lease does."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while True:
                try:
                    said, complaint = process.communicate(timeout=LOOK_EVERY_S)
                    return process.returncode, said, complaint
                except subprocess.TimeoutExpired:
                    lease.check()
        except NodeError:
            process.kill()
            raise
