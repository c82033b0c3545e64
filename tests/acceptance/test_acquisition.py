"""A target as a scanner typically stores it, through the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import dcmread

from diffmsr.acquisition import NAMED, simulate
from diffmsr.baselines import zero_filled
from diffmsr.data import with_phase
from diffmsr.metrics import psnr
from tests.acceptance.conftest import run_node
from tests.acceptance.test_geometry import SAMPLE, read_truths
from tests.dicom import write

pytestmark = pytest.mark.acceptance

NOTHING_UNDONE = "[acquisition]\nheader = false\nspectrum = false\n"


def typical_study(folder: Path) -> dict[str, Any]:
    """The sample's study whose T2 was acquired with 80 % phase resolution, an elliptical shutter, a Fermi filter and 1 %
    noise; returns what the scanner stored, by SOP instance UID."""
    shutil.copytree(SAMPLE / "T1", folder / "T1")
    truths, stored = read_truths(), {}
    slices = [dcmread(path) for path in sorted((SAMPLE / "T2").glob("*.dcm"))]
    for number, ds in enumerate(slices):
        rng = np.random.default_rng(number)
        truth = torch.from_numpy(truths[ds.SOPInstanceUID].astype(np.float32))
        image = simulate(with_phase(truth, rng), NAMED["typical"], rng, (ds.Rows, ds.Columns)).numpy()
        ds.PixelData = np.rint(image).astype("<u2").tobytes()
        ds.AcquisitionMatrix, ds.InPlanePhaseEncodingDirection = [0, ds.Columns, round(0.8 * ds.Rows), 0], "COL"
        stored[ds.SOPInstanceUID] = image
    write(slices, folder / "T2")
    return stored


def test_a_typical_target_gains_over_what_was_stored_and_over_nothing_undone(tmp_path: Path) -> None:
    stored, truths = typical_study(tmp_path / "study"), read_truths()
    off = tmp_path / "off.toml"
    off.write_text(NOTHING_UNDONE)
    gains = {}
    for name, more in (("default", []), ("off", ["--config", str(off)])):
        done = run_node("process", str(tmp_path / "study"), "--output", str(tmp_path / name), "--json", *more)
        assert done.returncode == 0, done.stderr + done.stdout
        (result,) = json.loads(done.stdout)["results"]
        gains[name] = []
        for path in sorted(Path(result["output"]).glob("*.dcm")):
            ds = dcmread(path)
            uid = ds.SourceImageSequence[0].ReferencedSOPInstanceUID
            factor = float(ds.DerivationDescription.split("source intensity x ")[1].split(" ")[0].rstrip("."))
            low, truth = zero_filled(stored[uid][None].astype(np.float32), 4)[0], truths[uid].astype(float)
            found = ds.pixel_array / factor
            gains[name].append(psnr(found, truth, truth.max()) - psnr(low, truth, truth.max()))
            undone = result["acquired"]["undone"]
            assert ("undone before" in ds.DerivationDescription) == bool(undone)
        assert len(undone) == (2 if name == "default" else 0), undone
        page = Path(result["report"]).read_text()
        assert ("k-space cropped to 77 x 87" in page) == (name == "default")
    assert min(gains["default"]) > 0
    assert np.mean(gains["default"]) > np.mean(gains["off"]) + 0.5
