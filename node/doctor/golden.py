"""The shipped study through the configured model: better than zero-filling, and the same as this node made before."""

import json
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from node import __version__
from node.archive.local import write_durably
from node.checks import Check, Level
from node.config.match import MatchSettings
from node.config.settings import OutputSettings, Settings
from node.demo.figures import SAMPLE, compare_with_truth
from node.errors import NodeError
from node.folder import read_folder
from node.offline import Processed, process_folder
from node.tracker.states import State
from node.weights import pixel_settings

KEPT = "golden.npz"
"""In the data folder: what this node made of the study before, and how long it took."""

TOLERANCE = 1
"""Stored values. Sums in another order, as on another number of threads, may differ by one."""

NAME = "golden study"


def golden(settings: Settings) -> Check:
    """Run it. The first run is kept; later runs are compared with it until the model or the version changes."""
    wanted = settings.model_copy(update={"match": MatchSettings(), "output": OutputSettings()})
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="diffmsr-doctor-") as scratch:
        (done,) = process_folder(read_folder(SAMPLE), Path(scratch), wanted, lambda *_: None)
        seconds = time.perf_counter() - started
        if done.state is not State.DONE or done.output is None:
            return _not_done(done)
        images = [dcmread(path) for path in done.output.glob("*.dcm")]
    compared = compare_with_truth(images)
    made, before = compared.psnr("DiffMSR"), compared.psnr("zero-filled")
    sentence = f"{made:.1f} dB against the withheld truth in {seconds:.0f} s; zero-filling has {before:.1f} dB"
    if made <= before:
        fix = "the device, its driver or torch computes wrongly, or the weights are not trained for T2 with T1: try [model] device"
        return Check(NAME, Level.FAIL, sentence, fix, failure=NodeError)
    pixels = compared.images["DiffMSR"].astype(np.uint16)
    return _compared(settings, sentence, pixels, seconds)


def _not_done(done: Processed) -> Check:
    if done.state is State.REFUSED:
        sentence = f"the model was not made for the shipped study, so it was not tried ({done.sentence})"
        return Check(NAME, Level.OK, sentence)
    return Check(NAME, Level.FAIL, done.sentence, "see [model] device and path", failure=NodeError)


def _compared(settings: Settings, sentence: str, pixels: NDArray[np.uint16], seconds: float) -> Check:
    path = settings.node.data_dir / KEPT
    made_with = json.dumps({"version": __version__, **pixel_settings(settings)}, sort_keys=True)
    kept = _read(path)
    if kept is None or kept[0] != made_with:
        _keep(path, made_with, pixels, seconds)
        return Check(NAME, Level.OK, f"{sentence}; kept to compare the next run with")
    _, before, took = kept
    apart = int(np.abs(before.astype(np.int32) - pixels).max()) if before.shape == pixels.shape else 65535
    if apart > TOLERANCE:
        fix = f"find what changed: device, driver, torch; when the new result is right, delete {path}"
        what = f"{sentence}; it differs from what this node made before by up to {apart} stored values"
        return Check(NAME, Level.FAIL, what, fix, failure=NodeError)
    if seconds > 2 * took:
        what = f"{sentence}; the first time it took {took:.0f} s"
        return Check(NAME, Level.WARN, what, "see what else this machine computes, and whether [model] device is used")
    return Check(NAME, Level.OK, f"{sentence}; the same as before")


def _read(path: Path) -> tuple[str, NDArray[np.uint16], float] | None:
    """(what it was made with, pixels, seconds) of the run that was kept; None when there is none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return str(file["made_with"]), file["pixels"], float(file["seconds"])
    except (OSError, ValueError, KeyError):
        return None


def _keep(path: Path, made_with: str, pixels: NDArray[np.uint16], seconds: float) -> None:
    buffer = BytesIO()
    np.savez_compressed(buffer, made_with=np.array(made_with), pixels=pixels, seconds=np.array(seconds))
    write_durably(path, buffer.getvalue())
