"""The figures of the demonstration: the result compared with the withheld truth and with simple interpolation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset, dcmread
from rich.table import Table

from diffmsr import baselines, metrics
from node.errors import NodeError

SAMPLE = Path(__file__).parent / "sample"

Slices = NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """Images of the same slices, (n, rows, columns) float32: the withheld truth, and each method's approximation."""

    truth: Slices
    images: dict[str, Slices]

    def table(self) -> Table:
        table = Table("", "PSNR dB", "SSIM", title=f"Against the withheld truth, mean of {len(self.truth)} slices")
        for name, images in self.images.items():
            scores = [_scores(image, truth) for image, truth in zip(images, self.truth, strict=True)]
            psnr, ssim = np.mean(scores, axis=0)
            table.add_row(name, f"{psnr:.2f}", f"{ssim:.4f}")
        return table

    def psnr(self, name: str) -> float:
        """dB, mean over the slices, of what that method made."""
        pairs = zip(self.images[name], self.truth, strict=True)
        return float(np.mean([_scores(image, truth)[0] for image, truth in pairs]))

    def picture(self) -> Image.Image:
        """The middle slice: every image on the grey scale of the truth, with its error below it, all errors on one scale."""
        middle = len(self.truth) // 2
        truth = self.truth[middle]
        white = float(np.percentile(truth, 99.8))
        columns = {**{name: images[middle] for name, images in self.images.items()}, "truth": truth}
        errors = {name: np.abs(image - truth) for name, image in columns.items()}
        brightest = float(np.percentile(errors["zero-filled"], 99.5))
        rows, width = truth.shape
        header, gap = 26, 4
        sheet = Image.new("L", (len(columns) * (width + gap), 2 * (rows + header + gap)), 255)
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
        for index, (name, image) in enumerate(columns.items()):
            left = index * (width + gap)
            draw.text((left + 4, 4), name, fill=0, font=font)
            sheet.paste(_grey(image, white), (left, header))
            below = rows + header + gap
            words = (
                f"error, white = {brightest / white:.0%} of the grey scale" if name != "truth" else "research use only"
            )
            draw.text((left + 4, below + 4), words, fill=0, font=font)
            sheet.paste(_grey(errors[name], brightest), (left, below + header))
        return sheet


def compare_with_truth(derived: Sequence[Dataset]) -> Comparison:
    """The derived instances beside the withheld truth and simple interpolation, slice by slice."""
    with np.load(SAMPLE / "truth.npz", allow_pickle=False) as file:
        truth = {
            str(uid): image.astype(np.float32) for uid, image in zip(file["source_uids"], file["pixels"], strict=True)
        }
    targets = {}
    for path in (SAMPLE / "T2").glob("*.dcm"):
        data_set = dcmread(path)
        targets[str(data_set.SOPInstanceUID)] = data_set.pixel_array.astype(np.float32)
    super_resolved = {_source(d): d.pixel_array.astype(np.float32) for d in derived}
    uids = sorted(truth, key=lambda uid: int(uid.rsplit(".", 1)[1]))
    if set(uids) != set(super_resolved):
        raise NodeError(f"the PACS received {len(super_resolved)} of {len(uids)} slices")
    low = np.stack([targets[uid] for uid in uids])
    scale = truth[uids[0]].shape[0] // low.shape[1]
    return Comparison(
        np.stack([truth[uid] for uid in uids]),
        {
            "zero-filled": baselines.zero_filled(low, scale),
            "bicubic": baselines.aligned_bicubic(low, scale),
            "DiffMSR": np.stack([super_resolved[uid] for uid in uids]),
        },
    )


def _source(derived: Dataset) -> str:
    """The T2 slice a derived instance was made from: the first of its source images."""
    return str(derived.SourceImageSequence[0].ReferencedSOPInstanceUID)


def _scores(image: Slices, truth: Slices) -> tuple[float, float]:
    peak = float(truth.max())
    return metrics.psnr(image, truth, peak), metrics.ssim(image, truth, peak)


def _grey(image: Slices, white: float) -> Image.Image:
    return Image.fromarray((np.clip(image / white, 0, 1) * 255).astype(np.uint8))
