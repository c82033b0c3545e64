"""`diffmsr train` for launchers that start a module: `torchrun -m diffmsr.train`, `accelerate launch -m diffmsr.train`."""

import sys

from diffmsr.cli import main

main(["train", *sys.argv[1:]])
