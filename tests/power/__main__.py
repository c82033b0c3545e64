"""python -m tests.power [--cuts 100] [--seed 1]

Exit code 0 when everything that was promised is there after each loss of power; else 1, with a line for each that is not.
"""

import argparse
import logging
import sys

import structlog

from tests.power.run import run
from tests.soak import judged


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.power", description=__doc__)
    arguments.add_argument("--cuts", type=int, help="at how many moments; all when left out")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return judged(
        "power", lambda folder: run(folder, given.cuts, seed=given.seed), "everything that was promised is there"
    )


if __name__ == "__main__":
    sys.exit(main())
