"""The figures for reading: a line per method."""

from collections.abc import Mapping
from typing import Any

from diffmsr.evaluate.methods import BICUBIC, ZERO_FILLED

LABELS = {ZERO_FILLED: "zero-filled", BICUBIC: "bicubic"}


def label(method: str) -> str:
    """A method's name as summaries and figures show it."""
    return LABELS.get(method, method)


def summary(figures: Mapping[str, Any]) -> str:
    """The means that `evaluate` found, and how far the first weights are ahead of each other method."""
    first, *others = figures["methods"]
    intervals = figures["intervals"]
    width = max(map(len, map(label, figures["methods"])))
    lines = [
        f"{figures['target']} guided by {figures['reference']}: {figures['n_slices']} slices of {figures['n_patients']} "
        f"patients, part {figures['split']}; 95 % intervals over {intervals['over']}"
    ]
    for method in (first, *others):
        row = figures if method == first else figures[method]
        line = f"{label(method):{width}}  {row['psnr']:6.2f} dB   SSIM {row['ssim']:.4f}   NRMSE {row['nrmse']:.4f}   HFEN {row['hfen']:.4f}"
        if method != first:
            gain = intervals["gains"][method]["psnr"]
            line += f"   {first} {gain['mean']:+.2f} dB [{gain['interval'][0]:+.2f}, {gain['interval'][1]:+.2f}]"
        lines.append(line)
    return "\n".join([*lines, *figures["notes"]])
