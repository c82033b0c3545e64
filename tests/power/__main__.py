"""python -m tests.power [--cuts 100] [--seed 1]

Exit code 0 when everything that was promised is there after each loss of power; else 1, with a line for each that is not.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import structlog

from tests.power.run import run


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.power", description=__doc__)
    arguments.add_argument("--cuts", type=int, help="at how many moments; all when left out")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="power-") as folder:
        wrong, figures = run(Path(folder), given.cuts, seed=given.seed)
    print(figures)
    print("\n".join(wrong) or "everything that was promised is there")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
