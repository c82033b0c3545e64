"""Where the configuration file is: named by `--config`, else `DIFFMSR_NODE_CONFIG`, else `./node.toml`, else
`/etc/diffmsr-node/node.toml`."""

import os
from pathlib import Path

from node.errors import ConfigError

ENVIRONMENT_VARIABLE = "DIFFMSR_NODE_CONFIG"
SYSTEM_CONFIG = Path("/etc/diffmsr-node/node.toml")


def find_config(given: Path | None) -> Path:
    """The configuration file to use; ConfigError when there is none."""
    if given is None and os.environ.get(ENVIRONMENT_VARIABLE):
        given = Path(os.environ[ENVIRONMENT_VARIABLE])
    candidates = [given] if given else [Path("node.toml"), SYSTEM_CONFIG]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    looked = ", ".join(str(c) for c in candidates)
    raise ConfigError(f"no configuration file at {looked}; write one with: diffmsr-node init --config {candidates[0]}")
