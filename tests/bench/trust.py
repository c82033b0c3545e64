"""python -m tests.bench.trust VENDOR_DICOM       expected beside true errors of what is no head

Every second slice of the ACR phantoms (T2 guided by T1) and of a scan of fruit (T2 guided by PD), in the middle half of each stack, is lowered
fourfold and super-resolved with the shipped weights. The figures are means over the tissue, in % of its mean intensity: what the node grades by.
"""

import sys
from pathlib import Path

import numpy as np
import pydicom
import torch
from numpy.typing import NDArray

from diffmsr.data import SCALE, degrade
from diffmsr.data.slices import fitted
from diffmsr.inference import SuperResolver
from diffmsr.trust import summarise, tissue_of

PAIRS = {
    name: (f"{name}_T2", f"{name}_T1") for name in ("ACR_GE_MR450W_1.5T", "ACR_Siemens_MagnetomSkyra_3T", "ACR_Siemens_Sola_1.5T")
} | {"fruit, Siemens Prisma": ("Siemens_Prisma_PD_T2_dualecho", "Siemens_Prisma_PD_T2_dualecho")}  # fmt: skip


def stack(folder: Path, last_echo: bool) -> NDArray[np.float32]:
    """(n, h, w) in the order of the slices; of several echoes the first or the last."""
    images: dict[float, list[tuple[float, NDArray[np.float32]]]] = {}
    for path in folder.glob("*.dcm"):
        ds = pydicom.dcmread(path)
        if "PerFrameFunctionalGroupsSequence" in ds:
            return np.asarray(ds.pixel_array, np.float32)
        echo, place = float(ds.get("EchoTime") or 0), float(ds.ImagePositionPatient[2])
        images.setdefault(place, []).append((echo, ds.pixel_array.astype(np.float32)))
    chosen = [sorted(of, key=lambda pair: pair[0])[-1 if last_echo else 0][1] for _, of in sorted(images.items())]
    return np.stack(chosen)


def main(root: Path) -> None:
    resolver = SuperResolver.load(trust=True)
    sys.stdout.write(f"{'':32}{'slices':>7}{'expected':>10}{'true':>8}{'largest expected':>18}\n")
    for name, (target, reference) in PAIRS.items():
        t2, t1 = (fitted(stack(root / folder, last), name) for folder, last in ((target, True), (reference, False)))
        images, expected, truth = [], [], []
        for i in range(len(t2) // 4, -(-3 * len(t2) // 4), 2):
            low = degrade(torch.from_numpy(t2[i]), np.random.default_rng(i)).numpy()[None]
            assert low.shape[1] * SCALE == t2.shape[1]
            restored = resolver.restore(low, t1[i : i + 1], [i])
            assert restored.expected_error is not None, "the shipped weights have a trust map"
            images.append(restored.images[0])
            expected.append(restored.expected_error[0])
            truth.append(t2[i])
        shown, tissue = np.stack(images), tissue_of(np.stack(images))
        summary = summarise(shown, np.stack(expected)).expected
        true = [np.abs(a - b)[t].mean() / a[t].mean() for a, b, t in zip(shown, truth, tissue, strict=True)]
        sys.stdout.write(
            f"{name:32}{len(images):7}{100 * np.mean(summary):10.1f}{100 * np.mean(true):8.1f}{100 * max(summary):18.1f}\n"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
