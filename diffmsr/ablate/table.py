"""Results of variants as tables: how far each is from the full model, with intervals."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffmsr.ablate.plan import Ablation, Variant, config_of
from diffmsr.compare import replace_text
from diffmsr.evaluate import RESAMPLES, interval

TABLE_MARKDOWN = "ablations.md"
TABLE_JSON = "ablations.json"
METRICS = ("psnr", "ssim")

Measured = Mapping[str, Any]
Results = dict[str, dict[int, Measured]]
"""By variant and seed."""


def write_tables(ablation: Ablation, results: Results, output: Path, command: str) -> None:
    """Write both tables, each whole or not at all."""
    rows = [_row(ablation, variant, results) for variant in ablation.variants if variant.name in results]
    content = {"command": command, "budget": _budget(ablation), "rows": rows}
    replace_text(output / TABLE_JSON, json.dumps(content, indent=2) + "\n")
    replace_text(output / TABLE_MARKDOWN, _markdown(ablation, rows, results, command))


def _row(ablation: Ablation, variant: Variant, results: Results) -> dict[str, Any]:
    mine, full = results[variant.name], results.get(ablation.full, {})
    paper_full = next(v.paper for v in ablation.variants if v.name == ablation.full)
    row: dict[str, Any] = {"variant": variant.name, "table": variant.table}
    row |= {"seeds": sorted(mine), "parameters": next(iter(mine.values()))["parameters"]}
    for metric in METRICS:
        row[metric] = float(np.mean([result["figures"][metric] for result in mine.values()]))
    if all("varied" in result for result in mine.values()):
        slices = [of for result in mine.values() for group in result["varied"].values() for of in group]
        row["varied"] = {metric: float(np.mean([of[metric] for of in slices])) for metric in METRICS}
    if variant.paper is not None and paper_full is not None:
        row["paper_difference"] = round(variant.paper - paper_full, 4)
    shared = sorted(mine.keys() & full.keys())
    if variant.name == ablation.full or not shared:
        return row
    pairs = [mine[seed] for seed in shared], [full[seed] for seed in shared]
    row["difference"] = _difference(*pairs)
    if all("varied" in result for results in pairs for result in results):
        row["varied"]["difference"] = _varied_difference(*pairs)
    return row


def _difference(mine: Sequence[Measured], full: Sequence[Measured]) -> dict[str, Any]:
    """By metric, the mean over slices of mine minus full (each with a result per seed, in the same order), and its
    interval over patients. There is no interval for one patient."""
    patients = [
        [{"variant": _mean_over_seeds(mine, i), "full": _mean_over_seeds(full, i)}] * patient["n_slices"]
        for i, patient in enumerate(mine[0]["figures"]["patients"])
        if patient["quoted"]
    ]
    gains = interval(patients, "variant")["gains"]["full"]
    return {
        metric: {**gain, "interval": gain["interval"] if len(patients) > 1 else None} for metric, gain in gains.items()
    }


def _varied_difference(mine: Sequence[Measured], full: Sequence[Measured]) -> dict[str, Any]:
    """As `_difference`, of targets with varied acquisitions, slice by slice."""

    def mean(results: Sequence[Measured], subject: str, i: int) -> dict[str, float]:
        return {metric: float(np.mean([of["varied"][subject][i][metric] for of in results])) for metric in METRICS}

    patients = [
        [{"variant": mean(mine, subject, i), "full": mean(full, subject, i)} for i in range(len(slices))]
        for subject, slices in mine[0]["varied"].items()
    ]
    gains = interval(patients, "variant")["gains"]["full"]
    return {
        metric: {**gain, "interval": gain["interval"] if len(patients) > 1 else None} for metric, gain in gains.items()
    }


def _mean_over_seeds(results: Sequence[Measured], patient: int) -> dict[str, float]:
    figures = [result["figures"]["patients"][patient] for result in results]
    return {metric: float(np.mean([of[metric] for of in figures])) for metric in METRICS}


def _budget(ablation: Ablation) -> str:
    full = next(variant for variant in ablation.variants if variant.name == ablation.full)
    config = config_of(ablation, full, seed=0)
    changed = ", ".join(f"{field} = {value}" for field, value in config.network.items())
    stages = [stage for stage in (config.stage_one, config.stage_two) if stage]
    slices = " + ".join(f"{stage.slices:,}" for stage in stages)
    seeds = "1 seed" if ablation.seeds == 1 else f"{ablation.seeds} seeds"
    return (
        f"Preset `{config.preset}`{f' with {changed}' if changed else ''}; {slices} training slices (patches of "
        f"{stages[0].patch} pixels, batches of {stages[0].batch}), {seeds}."
    )


def _markdown(ablation: Ablation, rows: list[dict[str, Any]], results: Results, command: str) -> str:
    lines = ["# Ablations", "", _budget(ablation), ""]
    measured = [result["figures"] for by_seed in results.values() for result in by_seed.values()]
    if measured:
        patients = sum(patient["quoted"] for patient in measured[0]["patients"])
        lines += [
            f"Measured on `{ablation.dataset}`, {ablation.target} guided by {ablation.reference}: "
            f"{measured[0]['n_slices']} slices of {patients} patients of a site never trained on. Zero-filled: "
            f"{measured[0]['zero_filled']['psnr']:.2f} dB, SSIM {measured[0]['zero_filled']['ssim']:.4f}. Differences are "
            f"paired, to `{ablation.full}`. The interval holds 95 % of {RESAMPLES:,} resamples of the patients; it does "
            "not show how much training runs differ by chance. The paper's differences are on other images, after a "
            "longer training.",
            "",
        ]
    for table in dict.fromkeys(variant.table for variant in ablation.variants):
        inside = [row for row in rows if row["table"] == table or row["variant"] == ablation.full]
        varied = any("varied" in row for row in inside)
        more = " varied: PSNR | SSIM | PSNR difference | SSIM difference |" if varied else ""
        lines += [
            f"## {table}",
            "",
            f"| variant | parameters | PSNR | SSIM | PSNR difference | SSIM difference | paper |{more}",
            "|---|---:|---:|---:|---:|---:|---:|" + "---:|" * (4 * varied),
        ]
        lines += [*(_table_row(row, varied) for row in inside), ""]
    missing = [variant.name for variant in ablation.variants if len(results.get(variant.name, {})) < ablation.seeds]
    if missing:
        lines += [f"Not finished: {', '.join(missing)}.", ""]
    return "\n".join([*lines, "Made with", "", f"    {command}", ""])


def _table_row(row: Mapping[str, Any], varied: bool) -> str:
    cells = [row["variant"], f"{row['parameters']:,}", *_scores(row)]
    cells.append(f"{row['paper_difference']:+.2f}" if row.get("paper_difference") else "")
    if varied:
        cells += _scores(row["varied"]) if "varied" in row else [""] * 4
    return f"| {' | '.join(cells)} |"


def _scores(of: Mapping[str, Any]) -> list[str]:
    """PSNR and SSIM, and how far each is from the full model's."""
    cells = [f"{of['psnr']:.2f}", f"{of['ssim']:.4f}"]
    for metric, digits in (("psnr", 2), ("ssim", 4)):
        gain = of["difference"][metric] if "difference" in of else None
        cells.append("" if gain is None else _with_interval(gain["mean"], gain["interval"], digits))
    return cells


def _with_interval(mean: float, bounds: Sequence[float] | None, digits: int) -> str:
    text = f"{mean:+.{digits}f}"
    return text if bounds is None else f"{text} [{bounds[0]:+.{digits}f}, {bounds[1]:+.{digits}f}]"
