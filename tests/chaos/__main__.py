"""python -m tests.chaos --seed 1 --kills 200

Exit code 0 when nothing was lost, damaged, left undone or sent twice; else 1, with a line for each.
"""

import argparse
import sys

from tests.soak import judged


def main() -> int:
    from tests.chaos.story import run  # here, because each process that is forked imports this file first

    arguments = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--kills", type=int, default=12)
    given = arguments.parse_args()
    return judged(
        "chaos",
        lambda folder: run(folder, given.seed, given.kills),
        "nothing lost, nothing damaged, nothing left undone, nothing sent twice",
    )


if __name__ == "__main__":
    sys.exit(main())
