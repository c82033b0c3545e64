"""Where a result lies and what it was made from, on the study that the node ships."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from scipy.ndimage import binary_erosion, gaussian_filter

from diffmsr import kspace
from diffmsr.baselines import zero_filled
from diffmsr.metrics import psnr
from node.infer.volume import Volume
from tests.dicom import volume_of, write

from .conftest import run_node

pytestmark = pytest.mark.acceptance

SAMPLE = Path(__file__).parents[2] / "node" / "demo" / "sample"
CUBE_MM = 1.2


def turn(degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    turned = sitk.Euler3DTransform()
    turned.SetRotation(*np.radians(degrees))
    return np.reshape(turned.GetMatrix(), (3, 3))


PATIENT = turn((22.0, -17.0, 31.0))
"""How the patient lies otherwise than in the data: no axis of any series is one of the patient's any more."""

ACROSS = PATIENT @ turn((8.0, 20.0, -11.0)) @ np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])
"""Along a row, along a column and across the slices of the T1: near sagittal, at 22 degrees and more to any axis."""


def in_decimals(values: NDArray[np.float64]) -> list[str]:
    return [f"{v:.10f}"[:16] for v in np.ravel(values)]


def turned(instances: list[Dataset]) -> list[Dataset]:
    for ds in instances:
        ds.ImagePositionPatient = in_decimals(PATIENT @ np.array(ds.ImagePositionPatient, dtype=float))
        axes = np.reshape(np.array(ds.ImageOrientationPatient, dtype=float), (2, 3))
        ds.ImageOrientationPatient = in_decimals(axes @ PATIENT.T)
    return instances


def as_cubes(volume: Volume, like: Dataset) -> list[Dataset]:
    """The T1 as a scanner would have acquired it in 3-D, in slices `ACROSS`: cubes that contain the stack."""
    step = (volume.positions[-1] - volume.positions[0]) / (len(volume.positions) - 1)
    image = sitk.GetImageFromArray(volume.pixels)
    image.SetOrigin(volume.positions[0].tolist())
    image.SetSpacing((volume.spacing[1], volume.spacing[0], float(np.linalg.norm(step))))
    image.SetDirection(np.column_stack([*volume.orientation, volume.normal]).ravel().tolist())
    corners = [image.TransformIndexToPhysicalPoint([int(n) - 1 if b & 1 << i else 0 for i, n in enumerate(image.GetSize())]) for b in range(8)]  # fmt: skip
    along = np.array(corners) @ ACROSS
    size = [int(n) for n in np.ceil(np.ptp(along, axis=0) / CUBE_MM) + 1]
    grid = sitk.ResampleImageFilter()
    grid.SetSize(size)
    grid.SetOutputOrigin((ACROSS @ along.min(axis=0)).tolist())
    grid.SetOutputSpacing([CUBE_MM] * 3)
    grid.SetOutputDirection(ACROSS.ravel().tolist())
    grid.SetInterpolator(sitk.sitkBSpline)
    grid.UseNearestNeighborExtrapolatorOff()
    pixels = np.clip(np.rint(sitk.GetArrayFromImage(grid.Execute(image))), 0, 65535).astype("<u2")
    instances = []
    for number, plane in enumerate(pixels, 1):
        ds = copy.deepcopy(like)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{like.SeriesInstanceUID}.99.{number}"
        ds.InstanceNumber, ds.MRAcquisitionType = number, "3D"
        ds.Rows, ds.Columns = plane.shape
        ds.PixelSpacing, ds.SliceThickness, ds.SpacingBetweenSlices = [CUBE_MM, CUBE_MM], CUBE_MM, CUBE_MM
        ds.ImageOrientationPatient = in_decimals(ACROSS[:, :2].T)
        ds.ImagePositionPatient = in_decimals(np.array(grid.GetOutputOrigin()) + (number - 1) * CUBE_MM * ACROSS[:, 2])
        ds.PixelData = plane.tobytes()
        instances.append(ds)
    return instances


def read_truths() -> dict[str, NDArray[np.float64]]:
    """The withheld truth of each T2 slice, by its SOP instance UID."""
    with np.load(SAMPLE / "truth.npz", allow_pickle=False) as file:
        return dict(zip(file["source_uids"].tolist(), file["pixels"].astype(float), strict=True))


def shift_of(image: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """(along a row, along a column) in pixels from the truth to the image, by least squares over the head (Lucas and
    Kanade, 1981); the ringing of magnitudes in air would bias it. Both are smoothed alike, beyond what tells them
    apart in sharpness."""
    head = binary_erosion(gaussian_filter(truth, 4) > 0.2 * np.percentile(truth, 99), iterations=6)
    smooth, image = gaussian_filter(truth, 2), gaussian_filter(image, 2)
    along_column, along_row = np.gradient(smooth)
    terms = np.column_stack([-along_row[head], -along_column[head], smooth[head], np.ones(head.sum())])
    solution, *_ = np.linalg.lstsq(terms, image[head], rcond=None)
    return np.asarray(solution[:2])


def process(study: Path, output: Path) -> list[Dataset]:
    """The derived images that the command line makes of a folder."""
    done = run_node("process", str(study), "--output", str(output), "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    files = [dcmread(path) for path in sorted(output.rglob("*.dcm"))]
    images = [ds for ds in files if "PixelData" in ds]
    assert [r["instances"] for r in json.loads(done.stdout)["results"]] == [len(images)]
    return images


def test_the_estimator_knows_a_tenth_of_a_pixel() -> None:
    truth = list(read_truths().values())[3]
    k = np.fft.fft2(truth)
    rows, columns = (np.fft.fftfreq(n) for n in truth.shape)
    moved = np.fft.ifft2(k * np.exp(-2j * np.pi * (0.10 * columns - 0.07 * rows[:, None]))).real
    assert shift_of(moved, truth) == pytest.approx([0.10, -0.07], abs=0.01)


def test_the_result_lies_on_the_truth_to_a_tenth_of_its_pixels(tmp_path: Path) -> None:
    t2 = turned([dcmread(p) for p in sorted((SAMPLE / "T2").glob("*.dcm"))])
    t1 = turned([dcmread(p) for p in sorted((SAMPLE / "T1").glob("*.dcm"))])
    flat = volume_of(write(t1, tmp_path / "flat"))
    write(t2, tmp_path / "study" / "t2")
    write(as_cubes(flat, t1[0]), tmp_path / "study" / "t1")

    results = process(tmp_path / "study", tmp_path / "out")

    truths = read_truths()
    sources = {ds.SOPInstanceUID: ds for ds in t2}
    shifts = []
    for derived in results:
        uid = derived.SourceImageSequence[0].ReferencedSOPInstanceUID
        source = sources.pop(uid)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
            assert np.allclose(derived[keyword].value, source[keyword].value, atol=1e-4)
        assert np.allclose(np.array(derived.PixelSpacing) * 4, source.PixelSpacing, atol=1e-6)
        shifts.append(shift_of(derived.pixel_array.astype(float), truths[uid]))
    assert not sources
    assert np.abs(shifts).max() < 0.1


def test_what_the_scanner_interpolated_is_taken_back_to_what_it_measured(tmp_path: Path) -> None:
    """The T2 enlarged by zero-filling, three times along columns and twice along rows: the result has four times the stored
    matrix, as much k-space as that of one that was not enlarged, lies on the truth and is nearer to it than the zero-filled."""
    shutil.copytree(SAMPLE / "T1", tmp_path / "study" / "T1")
    t2 = [dcmread(p) for p in sorted((SAMPLE / "T2").glob("*.dcm"))[2:5]]
    measured = {ds.SOPInstanceUID: ds.pixel_array.astype(np.float32) for ds in t2}
    for ds in t2:
        rows, columns = ds.Rows, ds.Columns
        # Scanners write 0, frequency, phase, 0. Phase is encoded along a row: so the frequency is over the rows.
        ds.AcquisitionMatrix, ds.InPlanePhaseEncodingDirection = [0, rows, columns, 0], "ROW"
        larger = kspace.zero_fill(torch.from_numpy(measured[ds.SOPInstanceUID]), 3 * rows, 2 * columns).abs().numpy()
        ds.PixelData = np.rint(larger).astype("<u2").tobytes()
        ds.Rows, ds.Columns = larger.shape
        ds.PixelSpacing = [f"{ds.PixelSpacing[0] / 3:.10f}", f"{ds.PixelSpacing[1] / 2:.10f}"]
    write(t2, tmp_path / "study" / "T2")

    results = process(tmp_path / "study", tmp_path / "out")

    truths = read_truths()
    assert len(results) == 3
    for derived in results:
        uid = derived.SourceImageSequence[0].ReferencedSOPInstanceUID
        truth = truths[uid]
        assert (derived.Rows, derived.Columns) == (3 * truth.shape[0], 2 * truth.shape[1]), (
            "four times the stored matrix"
        )
        found = kspace.crop_to(derived.pixel_array, *truth.shape).astype(float)
        assert "k-space cropped to" in str(derived), "the result says so"
        assert np.abs(shift_of(found, truth)).max() < 0.1
        enlarged = zero_filled(measured[uid][None], 4)[0]
        assert psnr(found, truth, truth.max()) > psnr(enlarged, truth, truth.max()) + 1
