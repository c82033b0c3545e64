"""What `process` gains on targets as scanners store them, over the stored image and over nothing undone.

    python -m tests.bench.acquisitions DATASET ROOT [--every N] [--split PART] [--patients N] [ACQUISITION ...]

Each named acquisition of `diffmsr.acquisition.NAMED` is simulated on the slices of a patient, and written as a DICOM study
with the header that a scanner would write: acquired matrix, and partial Fourier with its lines. The study is processed from
the files, as a site does, with the default configuration and with [acquisition] header and spectrum off, and the derived
images are read back from their files.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from diffmsr.acquisition import NAMED, Acquisition, header_of
from diffmsr.baselines import zero_filled
from diffmsr.data import SCALE, Slice, as_tensor, subject_bandwidth
from diffmsr.evaluate import interval, simulated_stack, stacks
from diffmsr.evaluate.run import FULL_BANDWIDTH
from diffmsr.evaluate.selection import select
from diffmsr.metrics import psnr
from node.config.settings import AcquisitionSettings, Settings
from node.folder import read_folder
from node.offline import process_folder
from tests.dicom import T1, T2, mr_series, write

FLAIR = {"ScanningSequence": ["SE", "IR"], "RepetitionTime": "9000", "EchoTime": "110", "InversionTime": "2500"}
PHYSICS = {"T1": T1, "T2": T2, "T2-FLAIR": T2 | FLAIR}
SPACING = {"open_ms": 0.6, "lgg": 0.94}
"""Of the truth, in mm."""
GAP = 5.0
HIGHEST = 4000
"""Stored value of the brightest pixel of a stack."""
SETTINGS = {
    "process": Settings(),
    "nothing undone": Settings(acquisition=AcquisitionSettings(header=False, spectrum=False)),
}

Images = NDArray[np.float32]
Scores = Mapping[str, Mapping[str, float]]


def header_attributes(header: Acquisition, rows: int, columns: int) -> dict[str, Any]:
    """What a scanner writes of an acquisition whose phase encoding runs along columns."""
    if header.extent[0] is None or header.extent[1] is None:
        return {}
    lines, samples = round(header.extent[0] * rows), round(header.extent[1] * columns)
    attributes: dict[str, Any] = {"AcquisitionMatrix": [0, samples, lines, 0], "InPlanePhaseEncodingDirection": "COL"}
    fraction = header.partial_fourier[0]
    if fraction is not None and fraction < 1:
        attributes |= {"ScanOptions": "PFP", "NumberOfPhaseEncodingSteps": round(fraction * lines)}
    return attributes


def series(
    images: Images, spacing: float, physics: Mapping[str, Any], **attributes: Any
) -> tuple[list[Dataset], float]:
    """The DICOM series of images (n, h, w), and its stored values over their intensity."""
    n, rows, columns = images.shape
    factor = HIGHEST / float(images.max())
    instances = mr_series(n, rows, columns, spacing, GAP, **{**physics, **attributes})
    for i, ds in enumerate(instances):
        ds.ImagePositionPatient = [0, 0, i * GAP]  # the first pixels of both grids lie on each other
        ds.PixelData = np.rint(images[i] * factor).astype("<u2").tobytes()
    return instances, factor


def measured(stack: Sequence[Slice], target: str, reference: str, names: Sequence[str]) -> dict[str, list[Scores]]:
    """For each acquisition the PSNR of every slice as stored, as processed, and as processed with nothing undone."""
    dataset = stack[0].dataset
    truth = np.stack([as_tensor(piece.images[target]).abs().numpy() for piece in stack])
    guide = np.stack([as_tensor(piece.images[reference]).abs().numpy() for piece in stack])
    scores: dict[str, list[Scores]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        stored: dict[str, tuple[str, Images, float]] = {}
        for number, name in enumerate(names, start=1):
            low = simulated_stack(stack, target, NAMED[name])
            of = {"study_uid": f"1.2.{number}", "frame_uid": f"1.2.{number}.9"}
            more = header_attributes(header_of(name), *low.shape[1:])
            t2, factor = series(low, SPACING[dataset] * SCALE, PHYSICS[target], series_number=2, **of, **more)
            t1, _ = series(guide, SPACING[dataset], PHYSICS[reference], series_number=1, **of)
            write(t2, folder / "studies" / name / "t2")
            write(t1, folder / "studies" / name / "t1")
            stored[of["study_uid"]] = name, low, factor
        found = read_folder(folder / "studies")
        results = {how: _processed(found, folder / how, settings) for how, settings in SETTINGS.items()}
        for study_uid, (name, low, factor) in stored.items():
            images = {"stored": zero_filled(low, SCALE)}
            images |= {how: by_study[study_uid] / factor for how, by_study in results.items()}
            scores[name] = [
                {how: {"psnr": psnr(image[i], truth[i], float(truth[i].max()))} for how, image in images.items()}
                for i in range(len(truth))
            ]
    return scores


def _processed(found: Any, output: Path, settings: Settings) -> dict[str, Images]:
    """The derived images of each study (n, H, W), in the unit of the stored values of its target, in order of position."""
    images = {}
    for item in process_folder(found, output, settings, lambda _uid, _done, _total: None):
        assert item.output is not None, item
        print(f"  {item.study_uid}: {item.sentence}", flush=True)
        derived = sorted((dcmread(path) for path in item.output.glob("*.dcm")), key=lambda d: d.ImagePositionPatient[2])
        (factor,) = {re.search(r"source intensity x (\S+?)\.? ", d.DerivationDescription)[1] for d in derived}  # type: ignore[index]
        images[item.study_uid] = np.stack([d.pixel_array.astype(np.float32) for d in derived]) / float(factor)
    return images


def table(groups: Mapping[str, Sequence[Sequence[Scores]]]) -> Iterator[str]:
    yield "| acquisition | stored | gain of process | worst slice | nothing undone | undoing is worth |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, patients in groups.items():
        slices = [s for patient in patients for s in patient]
        mean = {how: float(np.mean([s[how]["psnr"] for s in slices])) for how in slices[0]}
        bounds = interval([[{h: s[h] for h in ("process", "stored")} for s in p] for p in patients], "process")
        low, high = bounds["gains"]["stored"]["psnr"]["interval"]
        worst = min(s["process"]["psnr"] - s["stored"]["psnr"] for s in slices)
        yield (
            f"| {name} | {mean['stored']:.2f} | {mean['process'] - mean['stored']:+.2f} [{low:.2f}, {high:.2f}] | "
            f"{worst:+.2f} | {mean['nothing undone'] - mean['stored']:+.2f} | "
            f"{mean['process'] - mean['nothing undone']:+.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset", choices=list(SPACING))
    parser.add_argument("root", type=Path)
    parser.add_argument("acquisitions", nargs="*", default=list(NAMED))
    parser.add_argument("--split", default=None, help="part of the split; held-out by default")
    parser.add_argument("--every", type=int, default=1, help="take every N-th slice of a patient")
    parser.add_argument("--patients", type=int, default=1, help="take every N-th patient")
    parser.add_argument("--json", type=Path, help="write the PSNR of every slice here")
    given = parser.parse_args()
    chosen = select(given.dataset, given.root, split=given.split)
    patients = {s: p for s, p in chosen.patients.items() if subject_bandwidth(p, chosen.target) >= FULL_BANDWIDTH}
    groups: dict[str, list[list[Scores]]] = {name: [] for name in given.acquisitions}
    for subject, pieces in list((patients or chosen.patients).items())[:: given.patients]:
        print(subject, flush=True)
        of_patient: dict[str, list[Scores]] = {}
        for stack in stacks(pieces, chosen.target):
            for name, scores in measured(
                stack[:: given.every], chosen.target, chosen.reference, given.acquisitions
            ).items():
                of_patient.setdefault(name, []).extend(scores)
        for name, scores in of_patient.items():
            groups[name].append(scores)
        if given.json:
            given.json.write_text(json.dumps(groups))
    print(
        f"{chosen.target} guided by {chosen.reference}, part {chosen.split}: {len(groups[given.acquisitions[0]])} patients"
    )
    print("\n".join(table(groups)))


if __name__ == "__main__":
    main()
