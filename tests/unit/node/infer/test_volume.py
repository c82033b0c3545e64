"""Reading a stack: every pixel value and place as the standard means it, or a refusal with a code."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

from node.dicom import decompression
from node.errors import RefusedError, StorageError
from tests.conftest import require
from tests.dicom import enhanced, mr_series, volume_of
from tests.dicom import write as write_files

Write = Callable[..., list[Path]]

COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)


@pytest.fixture
def pixels() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 4096, (4, 40, 36), dtype=np.uint16)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a stack of axial slices 3 mm apart; `change(dataset, i)` spoils or varies each before it is written."""

    def write(
        pixels: NDArray[np.generic],
        change: Callable[[Dataset, int], None] = lambda _, __: None,
        syntax: str = ExplicitVRLittleEndian,
    ) -> list[Path]:
        paths = []
        for i, plane in enumerate(pixels):
            ds = Dataset()
            ds.file_meta = FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax in COMPRESSED else syntax
            ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, f"1.2.3.{i + 1}"
            ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2", "1.2.9"
            ds.ImagePositionPatient, ds.ImageOrientationPatient = [-10, -20, 3 * i], [1, 0, 0, 0, 1, 0]
            ds.PixelSpacing, ds.SliceThickness = [2.0, 1.5], 2.5
            ds.Rows, ds.Columns = plane.shape
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
            ds.PixelRepresentation = int(plane.dtype.kind == "i")
            ds.PixelData = plane.astype(
                plane.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")
            ).tobytes()
            ds["PixelData"].VR = "OW"
            change(ds, i)
            if syntax in COMPRESSED:
                ds.compress(syntax)
            path = tmp_path / f"{len(pixels) - i}.dcm"
            ds.save_as(path, enforce_file_format=True)
            paths.append(path)
        return paths

    return write


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda s: s.name,
)
def test_every_syntax_gives_the_same_volume(write: Write, pixels: NDArray[np.uint16], syntax: str) -> None:
    volume = volume_of(write(pixels, syntax=syntax))
    assert volume.pixels.dtype == np.float32
    assert np.array_equal(volume.pixels, pixels)
    assert volume.spacing == (2.0, 1.5)
    assert volume.slice_thickness == 2.5
    assert volume.frame_of_reference_uid == "1.2.9"


def test_slices_are_sorted_along_the_normal_however_they_come(write: Write, pixels: NDArray[np.uint16]) -> None:
    paths = write(pixels)
    volume = volume_of([paths[i] for i in (2, 0, 3, 1)])
    assert volume.sop_uids == ("1.2.3.1", "1.2.3.2", "1.2.3.3", "1.2.3.4")
    assert volume.positions[:, 2].tolist() == [0, 3, 6, 9]
    assert np.array_equal(volume.pixels, pixels)


def test_rescale_is_applied(write: Write, pixels: NDArray[np.uint16]) -> None:
    def rescale(ds: Dataset, i: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = 0.5 * (i + 1), 10

    volume = volume_of(write(pixels, rescale))
    assert np.allclose(volume.pixels, pixels * (0.5 * np.arange(1, 5))[:, None, None] + 10)


def test_philips_scale_that_varies_makes_slices_comparable(write: Write, pixels: NDArray[np.uint16]) -> None:
    def scale(ds: Dataset, i: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = 2.0, 0
        block = ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", 0.25 * (i + 1))

    volume = volume_of(write(pixels, scale))
    assert np.allclose(volume.pixels, 2.0 * pixels / np.arange(1, 5)[:, None, None], rtol=1e-5)


def test_monochrome1_is_inverted_within_the_bits_stored(write: Write, pixels: NDArray[np.uint16]) -> None:
    def invert(ds: Dataset, _: int) -> None:
        ds.PhotometricInterpretation, ds.BitsStored, ds.HighBit = "MONOCHROME1", 12, 11

    assert np.array_equal(volume_of(write(pixels, invert)).pixels, 4095 - pixels.astype(int))


def test_signed_pixels_are_fine_and_padding_is_air(write: Write, pixels: NDArray[np.uint16]) -> None:
    signed = pixels.astype(np.int16)
    signed[:, 0, 0] = -2000

    def pad(ds: Dataset, _: int) -> None:
        ds.add_new("PixelPaddingValue", "SS", -2000)

    volume = volume_of(write(signed, pad))
    assert np.array_equal(volume.pixels, np.maximum(signed, 0))


def _truncate(ds: Dataset, _: int) -> None:
    ds.PixelData = ds.PixelData[:-50]


def _negate(ds: Dataset, _: int) -> None:
    ds.RescaleSlope, ds.RescaleIntercept = -1, 0


REFUSALS: dict[str, tuple[str, Callable[[Dataset, int], None]]] = {
    "truncated pixels": ("E_PIXELS_UNREADABLE", _truncate),
    "absurd matrix": ("E_PIXELS_SIZE", lambda ds, i: setattr(ds, "Rows", 65535)),
    "no matrix": ("E_PIXELS_SIZE", lambda ds, i: delattr(ds, "Columns")),
    "no pixels": ("E_PIXELS_NONE", lambda ds, i: delattr(ds, "PixelData")),
    "colour": ("E_PIXELS_COLOUR", lambda ds, i: setattr(ds, "PhotometricInterpretation", "RGB")),
    "several frames": ("E_PIXELS_MULTIFRAME", lambda ds, i: setattr(ds, "NumberOfFrames", 2)),
    "negative values": ("E_PIXELS_NEGATIVE", _negate),
    "no position": ("E_PIXELS_NO_GEOMETRY", lambda ds, i: delattr(ds, "ImagePositionPatient")),
    "two spacings": ("E_PIXELS_INCONSISTENT", lambda ds, i: setattr(ds, "PixelSpacing", [1 + i, 1])),
    "no spacing": ("E_PIXELS_NO_GEOMETRY", lambda ds, i: setattr(ds, "PixelSpacing", [0, 1])),
    "null orientation": ("E_PIXELS_NO_GEOMETRY", lambda ds, i: setattr(ds, "ImageOrientationPatient", [0] * 6)),
    "two orientations": (
        "E_PIXELS_INCONSISTENT",
        lambda ds, i: setattr(ds, "ImageOrientationPatient", [1, 0, 0, 0, 1 - i % 2, i % 2]),
    ),
    "two slices in one place": (
        "E_PIXELS_INCONSISTENT",
        lambda ds, i: setattr(ds, "ImagePositionPatient", [i, 0, 0]),
    ),
    "two frames of reference": ("E_PIXELS_INCONSISTENT", lambda ds, i: setattr(ds, "FrameOfReferenceUID", f"1.{i}")),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_read_is_refused_with_a_code(write: Write, pixels: NDArray[np.uint16], name: str) -> None:
    code, change = REFUSALS[name]
    paths = write(pixels, change)
    with pytest.raises(RefusedError) as refused:
        volume_of(paths)
    assert refused.value.code == code
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("series", ["GE_HDxt_deidentified_T1_sag", "GE_Signa_T1_MPRAGE"])
def test_scanner_files_are_read_as_pydicom_reads_them(series: str, shared_data: Path) -> None:
    paths = sorted((shared_data / "vendor_dicom" / series).glob("*.dcm"))
    volume = volume_of(paths)
    stored = {ds.SOPInstanceUID: ds.pixel_array for ds in map(pydicom.dcmread, paths)}
    assert np.array_equal(volume.pixels, np.stack([stored[uid] for uid in volume.sop_uids]))
    assert (np.diff(volume.positions @ volume.normal) > 0).all()


def test_two_echoes_are_not_one_stack(shared_data: Path) -> None:
    paths = sorted((shared_data / "vendor_dicom" / "Siemens_Prisma_PD_T2_dualecho").glob("*.dcm"))
    with pytest.raises(RefusedError, match="at the same position"):
        volume_of(paths)


def test_a_file_that_is_not_dicom_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.dcm"
    path.write_text("not an image")
    with pytest.raises(RefusedError, match="E_PIXELS_UNREADABLE"):
        volume_of([path])


def test_a_file_that_is_gone_is_the_archives_failure(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        volume_of([tmp_path / "gone.dcm"])


@pytest.mark.parametrize("cut", [140, 300, 700])
def test_a_file_cut_short_is_refused(write: Write, pixels: NDArray[np.uint16], cut: int) -> None:
    paths = write(pixels)
    paths[1].write_bytes(paths[1].read_bytes()[:cut])
    with pytest.raises(RefusedError, match="E_PIXELS_"):
        volume_of(paths)


@pytest.fixture
def without_gdcm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where the extra is not installed: here, and in a decoder process of this test's own."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "gdcm.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
    monkeypatch.setattr(decompression, "_process", None)
    decoder = get_decoder(JPEGLosslessSV1)
    decoder.remove_plugin("gdcm")
    yield
    decoder.add_plugin("gdcm", ("pydicom.pixels.decoders.gdcm", "_decode_frame"))
    if decompression._process is not None:
        decompression._end(decompression._process)


@pytest.mark.usefixtures("without_gdcm")
def test_a_syntax_that_needs_an_extra_says_which(tmp_path: Path) -> None:
    (source,) = write_files(mr_series(1), tmp_path)
    subprocess.run([require("dcmcjpeg"), "+e1", source, source], check=True)
    with pytest.raises(RefusedError, match=r"diffmsr-node\[gdcm\]"):
        volume_of([source])


@pytest.mark.usefixtures("without_gdcm")
@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=lambda s: s.name)
def test_what_needs_no_extra_is_read_without_it(write: Write, pixels: NDArray[np.uint16], syntax: UID) -> None:
    paths = write(pixels, syntax=syntax)
    assert np.array_equal(volume_of(paths).pixels, pixels)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, *COMPRESSED], ids=lambda s: s.name)
def test_frames_are_read_like_the_classic_images(tmp_path: Path, syntax: UID) -> None:
    images = mr_series(4, rows=40, columns=36)
    expected = volume_of(write_files(images, tmp_path / "classic"))
    ds = enhanced(images)
    if syntax in COMPRESSED:
        ds.compress(syntax)
    (path,) = write_files([ds], tmp_path / "enhanced")
    volume = volume_of([path] * 4, [2, 1, 4, 3])
    assert (volume.frames, volume.sop_uids) == ((1, 2, 3, 4), (ds.SOPInstanceUID,) * 4)
    assert np.array_equal(volume.pixels, expected.pixels)
    assert np.array_equal(volume.positions, expected.positions)
    assert (volume.spacing, volume.slice_thickness) == (expected.spacing, expected.slice_thickness)
    some = volume_of([path] * 2, [3, 2])
    assert some.frames == (2, 3)
    assert np.array_equal(some.pixels, expected.pixels[1:3])


def test_a_frame_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (path,) = write_files([enhanced(mr_series(3))], tmp_path)
    with pytest.raises(RefusedError, match="has only 2 of the 3 frames"):
        volume_of([path] * 3, [2, 3, 4])


def test_frames_that_were_cut_off_are_refused(tmp_path: Path) -> None:
    ds = enhanced(mr_series(3))
    ds.PixelData = ds.PixelData[:-2000]
    (path,) = write_files([ds], tmp_path)
    with pytest.raises(RefusedError, match="E_PIXELS_UNREADABLE"):
        volume_of([path] * 3, [1, 2, 3])


def test_philips_scale_of_frames(tmp_path: Path) -> None:
    images = mr_series(3, RescaleSlope=2.0, RescaleIntercept=0)
    plain = volume_of(write_files(images, tmp_path / "plain")).pixels
    ds = enhanced(images)
    for n, group in enumerate(ds.PerFrameFunctionalGroupsSequence, start=1):
        copied = Dataset()
        copied.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.25 * n)
        group.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x0F, "SQ", [copied])
    (path,) = write_files([ds], tmp_path / "scaled")
    assert np.allclose(volume_of([path]).pixels, plain / np.arange(1, 4)[:, None, None], rtol=1e-5)


def test_a_stack_that_would_fill_memory_is_refused_before_it_does(tmp_path: Path) -> None:
    paths = write_files(mr_series(33, PixelData=b"\0" * 64, Rows=4096, Columns=4096), tmp_path)
    with pytest.raises(RefusedError, match="33 slices of 4096 x 4096 pixels are more than the node can process"):
        volume_of(paths)


def test_an_empty_rescale_means_none(write: Write, pixels: NDArray[np.uint16]) -> None:
    def empty(ds: Dataset, _: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = None, None

    assert np.array_equal(volume_of(write(pixels, empty)).pixels, pixels)
