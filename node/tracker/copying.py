"""A copy of an SQLite file as it is at one moment, while others write."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

LOOK_EVERY_S = 0.2


def copy(source: Path, target: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Copy it to a new file. `progress` hears of (bytes, all bytes). sqlite3.Error, when there is no file either.

    SQLite copies in one step. In several it would begin again whenever somebody else has written, which on a busy node
    never ends. So the size of the new file says how far it is.
    """
    failed: list[sqlite3.Error] = []

    def work() -> None:
        try:
            with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
                old.backup(new)
        except sqlite3.Error as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    total = source.stat().st_size if source.exists() else 0
    try:
        while thread.is_alive():
            thread.join(LOOK_EVERY_S)
            done = target.stat().st_size if target.exists() else 0
            progress(min(done, total), total)
    except BaseException:
        target.unlink(missing_ok=True)  # half a copy is none
        raise
    if failed:
        target.unlink(missing_ok=True)
        raise failed[0]
