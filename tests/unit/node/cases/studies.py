"""How the studies of the cases are made: files in a folder, as a PACS would push them."""

import gzip
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import UID, generate_uid

from node.config.settings import OutputSettings, ReportSettings
from node.derived.encode import encode
from node.result import Result
from tests.conftest import require
from tests.dicom import enhanced, study, write
from tests.unit.node.cases.changes import Change, set_attributes

SLICES, ROWS, COLUMNS = 3, 40, 36  # of the T2; JPEG 2000 in five levels needs more than 32


@dataclass(frozen=True)
class Made:
    """What a study's files hold, to compare with what is read."""

    target: NDArray[np.float64] | None = None
    """Real-world values, (slices, rows, columns); None where nothing is to be read, or it is not known."""
    reference: NDArray[np.float64] | None = None


Build = Callable[[Path], Made]


@dataclass(frozen=True)
class Pair:
    """A T2 and the T1 that fits it, each as a list of classic images."""

    t2: list[Dataset] = field(default_factory=list)
    t1: list[Dataset] = field(default_factory=list)

    @classmethod
    def plain(cls, slices: int = SLICES) -> "Pair":
        t2, t1 = study(slices, ROWS, COLUMNS)
        for image in (*t2, *t1):
            image.AcquisitionMatrix = [0, image.Columns, image.Rows, 0]
            image.InPlanePhaseEncodingDirection = "COL"
        return cls(t2, t1)

    def made(self) -> Made:
        return Made(_stored(self.t2), _stored(self.t1))

    def write(self, folder: Path) -> list[Path]:
        return [*write(self.t2, folder / "t2"), *write(self.t1, folder / "t1")]


def plain(folder: Path) -> Made:
    pair = Pair.plain()
    pair.write(folder)
    return pair.made()


def t2(slices: int = SLICES, **attributes: Any) -> Build:
    """The plain pair with attributes of every T2 image changed; None deletes one."""
    return changed(lambda images: set_attributes(images, attributes), slices=slices)


def t1(**attributes: Any) -> Build:
    return changed(t1=lambda images: set_attributes(images, attributes))


def changed(t2: Change | None = None, t1: Change | None = None, slices: int = SLICES) -> Build:
    """The plain pair with its series changed before they are written; pixels as far as they are still known."""

    def build(folder: Path) -> Made:
        pair = Pair.plain(slices)
        made = pair.made()
        pair = Pair(t2(pair.t2) if t2 else pair.t2, t1(pair.t1) if t1 else pair.t1)
        pair.write(folder)
        return made if not t2 and not t1 else Made()

    return build


def same_values(change: Change) -> Build:
    """The plain pair, its T2 stored otherwise with the same meaning."""

    def build(folder: Path) -> Made:
        pair = Pair.plain()
        made = pair.made()
        Pair(change(pair.t2), pair.t1).write(folder)
        return made

    return build


def compressed(syntax: UID, **options: Any) -> Build:
    """The plain pair in a transfer syntax that pydicom's plugins encode."""

    def build(folder: Path) -> Made:
        pair = Pair.plain()
        made = pair.made()
        for image in (*pair.t2, *pair.t1):
            image.compress(syntax, generate_instance_uid=False, **options)
            _declare_loss(image, options)
        pair.write(folder)
        return made

    return build


def converted(program: str, *options: str, bits: int = 12) -> Build:
    """The plain pair as a program of dcmtk writes it; lossy JPEG needs exactly 8 or 12 bits."""

    def build(folder: Path) -> Made:
        pair = Pair.plain()
        for image in (*pair.t2, *pair.t1) if bits == 8 else ():
            image.PixelData = (image.pixel_array >> 4).astype(np.uint8).tobytes()
            image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
            image["PixelData"].VR = "OB"
        for path in pair.write(folder):
            subprocess.run([require(program), *options, path, path], check=True, capture_output=True)
        return pair.made()

    return build


def high_throughput(syntax: UID, *options: str) -> Build:
    """The plain pair as HTJ2K."""

    def build(folder: Path) -> Made:
        pair = Pair.plain()
        made = pair.made()
        for image in (*pair.t2, *pair.t1):
            _compress_high_throughput(image, folder, syntax, options)
            _declare_loss(image, options if "-qstep" in options else ())
        pair.write(folder)
        return made

    return build


def multiframe(
    t2: Change | None = None,
    t1: bool = True,
    spoil: Callable[[Dataset], Any] = lambda _: None,
    syntax: UID | None = None,
) -> Build:
    """The plain pair as Enhanced MR: the T2 always, the T1 on request; changed before, spoilt or compressed after."""

    def build(folder: Path) -> Made:
        pair = Pair.plain()
        made = pair.made() if t2 is None else Made()
        single = enhanced(t2(pair.t2) if t2 else pair.t2)
        spoil(single)
        if syntax is not None:
            single.compress(syntax, generate_instance_uid=False)
        write([single], folder / "t2")
        write([enhanced(pair.t1)] if t1 else pair.t1, folder / "t1")
        return made

    return build


def one_frame_each(folder: Path) -> Made:
    """The plain pair as Enhanced MR with an instance for each slice, as some scanners write it."""
    pair = Pair.plain()
    for name, images in (("t2", pair.t2), ("t1", pair.t1)):
        write([enhanced([image]) for image in images], folder / name)
    return pair.made()


def legacy_converted(folder: Path) -> Made:
    from highdicom.legacy import LegacyConvertedEnhancedMRImage

    pair = Pair.plain()
    for number, images in enumerate((pair.t2, pair.t1), start=1):
        single = LegacyConvertedEnhancedMRImage(
            images, str(generate_uid()), number, str(generate_uid()), 1, skip_private_attributes=True
        )
        write([single], folder / str(number))
    return pair.made()


def own_output(**settings: Any) -> Build:
    """A pair, and the result of it that came back from the PACS."""

    def build(folder: Path) -> Made:
        pair = Pair.plain()
        made = pair.made()
        pair.write(folder)
        result = Result(
            pixels=np.ones((SLICES, 4 * ROWS, 4 * COLUMNS), np.float32),
            positions=np.array([[float(v) for v in image.ImagePositionPatient] for image in pair.t2]),
            orientation=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
            spacing=(1.0, 1.0),
            source_uids=[image.SOPInstanceUID for image in pair.t2],
            reference_uids=[[image.SOPInstanceUID] for image in pair.t1],
            model_name="m", model_version="1", weights_sha256="0" * 64, scale=4, parameters={}, warnings=[],
        )  # fmt: skip
        encoded = encode(result, [*pair.t2, *pair.t1], OutputSettings(**settings), ReportSettings(), 9002)
        write(encoded.instances, folder / "derived")
        return made

    return build


def packaged(*names: str) -> Build:
    """Test images that pydicom, pydicom-data or nibabel bring along."""

    def build(folder: Path) -> Made:
        for name in names:
            path = Path(nibabel.__file__).parent / "nicom" / "tests" / "data" / name
            if not path.is_file():
                path = Path(str(get_testdata_file(name, download=False)))
            content = path.read_bytes()
            (folder / name).write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
        return Made()

    return build


def philips_guides(folder: Path) -> Made:
    """The Enhanced T1 of a Philips scanner (nibabel's; its pixels are empty), and a T2 planned in its planes."""
    packaged("philips_mprage.dcm.gz")(folder)
    header = dcmread(folder / "philips_mprage.dcm.gz", stop_before_pixels=True)
    frames = header.PerFrameFunctionalGroupsSequence[10:30:5]
    images, _ = study(4, 64, 64)
    for image, frame in zip(images, frames, strict=True):
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "PatientBirthDate"):
            setattr(image, keyword, header[keyword].value)
        image.ImageOrientationPatient = frame.PlaneOrientationSequence[0].ImageOrientationPatient
        image.ImagePositionPatient = frame.PlanePositionSequence[0].ImagePositionPatient
        image.SliceThickness = image.SpacingBetweenSlices = 5
        image.AcquisitionMatrix, image.InPlanePhaseEncodingDirection = [0, 64, 64, 0], "COL"
    write(images, folder / "t2")
    return Made(_stored(images))


def _stored(images: list[Dataset]) -> NDArray[np.float64]:
    return np.stack([image.pixel_array for image in images]).astype(np.float64)


def _declare_loss(image: Dataset, options: Any) -> None:
    if options:
        image.LossyImageCompression = "01"


def _compress_high_throughput(image: Dataset, folder: Path, syntax: UID, options: tuple[str, ...]) -> None:
    source, codestream = folder / "image.pgm", folder / "image.j2c"
    largest = 2**image.BitsStored - 1
    header = f"P5\n{image.Columns} {image.Rows}\n{largest}\n".encode()
    source.write_bytes(header + image.pixel_array.astype(">u2").tobytes())
    subprocess.run(
        [require("ojph_compress"), "-i", source, "-o", codestream, "-num_decomps", "3", *options],
        check=True,
        capture_output=True,
    )
    image.PixelData = encapsulate([codestream.read_bytes()])
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = syntax
    source.unlink()
    codestream.unlink()
