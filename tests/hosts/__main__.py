"""python -m tests.hosts

Exit code 0 when three hosts lost nothing, and did nothing twice; else 1, with a line for each.
"""

import signal
import sys
import tempfile
from pathlib import Path


def main() -> int:
    from tests.hosts.story import run  # here, because each process that is forked imports this file first

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing stays behind
    with tempfile.TemporaryDirectory(prefix="hosts-") as folder:
        Path(folder).chmod(0o755)  # the database server is another user
        wrong = run(Path(folder))
    print("\n".join(wrong) or "nothing lost, nothing damaged, nothing left undone, nothing sent twice")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
