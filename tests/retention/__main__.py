"""python -m tests.retention --studies 10000 --volume-mb 2000

Exit code 0 when every study reached the PACS once and nothing was freed before that; else 1, with a line for each. It needs root,
to mount a volume.
"""

import argparse
import sys

from tests.soak import judged


def main() -> int:
    from tests.retention.story import run  # here, because each process that is forked imports this file first

    arguments = argparse.ArgumentParser(prog="python -m tests.retention", description=__doc__)
    arguments.add_argument("--studies", type=int, default=500)
    arguments.add_argument("--volume-mb", type=int, default=200)
    given = arguments.parse_args()
    return judged(
        "retention",
        lambda folder: run(folder, given.studies, given.volume_mb),
        "everything reached the PACS once, and nothing was freed before",
    )


if __name__ == "__main__":
    sys.exit(main())
