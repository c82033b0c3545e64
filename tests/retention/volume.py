"""A file system of a given size."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted(place: Path, megabytes: int) -> Iterator[str]:
    """Mount one at a folder, which is made; its kind. It is ext4 in a file where the machine has loop devices, else in
    memory. SystemExit with a sentence for whoever may not mount."""
    place.mkdir()
    if os.geteuid() != 0:
        sys.exit("skipped: only root can mount a limited volume")
    image = place.with_suffix(".ext4")
    with image.open("wb") as file:
        file.truncate(megabytes * 10**6)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    kind = "ext4"
    if subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, check=False).returncode:
        kind = "tmpfs"
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes * 10**6}", "none", place]
        if subprocess.run(command, check=False).returncode:
            sys.exit("skipped: this machine mounts neither a loop device nor a tmpfs")
    try:
        yield kind
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        image.unlink()
