"""python -m node.cli: the command line, where its console script is not on the PATH."""

from node.cli.app import main

main()
