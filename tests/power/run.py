"""Record once, and let the power go at many moments."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from pydicom import dcmread

from tests.chaos.scanner import data_set
from tests.conftest import require
from tests.dicom import mr_series, write
from tests.power.disk import Disk, moments, write_to
from tests.power.judge import missing, start
from tests.power.trace import COMMAND, Op, read

ROOT = Path(__file__).parents[2]
RESTS = ("nothing", "some", "all")


def record(folder: Path, instances: int) -> tuple[list[Op], dict[str, bytes]]:
    """What a node does that starts on an empty folder, and the data set of each instance that it received."""
    made = [
        *mr_series(instances - 2, 24, 32, study_uid="1.2.826.7", series_uid="1.2.826.7.1"),
        *mr_series(2, 128, 128, study_uid="1.2.826.7", series_uid="1.2.826.7.2"),  # too large for the log
    ]
    chance = random.Random(1)
    for number, dataset in enumerate(made):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.7.3.{number}"
    paths = write(chance.sample(made, len(made)), folder / "files")
    output = folder / "trace"
    data = folder / "data"
    data.mkdir()
    command = [
        require(COMMAND[0]),
        *COMMAND[1:],
        "-o",
        output,
        sys.executable,
        "-m",
        "tests.power.recorded",
        data,
        folder / "files",
    ]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    sent = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): data_set(path.read_bytes()) for path in paths}
    return read(output, data), sent


def run(folder: Path, cuts: int | None, instances: int = 18, seed: int = 1) -> tuple[list[str], str]:
    """What does not hold, and figures in words. `cuts`: at so many moments, spread evenly; None for all of them."""
    ops, sent = record(folder, instances)
    data = folder / "data"
    chosen = moments(ops)
    if cuts is not None:
        chosen = [chosen[(n + 1) * len(chosen) // cuts - 1] for n in range(cuts)]
    chance = random.Random(seed)
    disk, promised, wrong, tried = Disk(data), list[str](), list[str](), 0
    wanted = set(chosen)
    for number, op in enumerate(ops, 1):
        if op.what == "promise":
            promised += op.content.decode().split("\n")[:-1]
        disk.do(op)
        if number not in wanted:
            continue
        for rest in RESTS:
            after = folder / "after"
            write_to(disk.after_power_loss(rest, chance), data, after)
            why = start(after)
            found = [f"it does not start: {why}"] if why else missing(after, promised, sent)
            wrong += [
                f"power lost after {number} ({op.what} {op.path}), {rest} of the rest kept: {one}" for one in found
            ]
            tried += 1
    counts = ", ".join(f"{count} {what}" for what, count in Counter(op.what for op in ops).most_common())
    return (
        wrong,
        f"{len(ops)} operations ({counts}), power lost {tried} times at {len(chosen)} moments, {len(promised)} promises",
    )
