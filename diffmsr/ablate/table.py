"""Results of variants as tables: how far each is from the full model, and how sure that is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffmsr.ablate.plan import Ablation, Variant, config_of

TABLE_MARKDOWN = "ablations.md"
TABLE_JSON = "ablations.json"
RESAMPLES = 10_000

Results = dict[str, dict[int, dict[str, Any]]]
"""By variant and seed."""


def write_tables(ablation: Ablation, results: Results, output: Path, command: str) -> None:
    """Write both tables, each whole or not at all."""
    rows = [_row(ablation, variant, results) for variant in ablation.variants if variant.name in results]
    content = {"command": command, "budget": _budget(ablation), "rows": rows}
    for name, text in (
        (TABLE_JSON, json.dumps(content, indent=2) + "\n"),
        (TABLE_MARKDOWN, _markdown(ablation, rows, results, command)),
    ):
        part = output / (name + ".part")
        part.write_text(text)
        part.replace(output / name)


def paired_interval(
    differences: Mapping[str, float], slices: Mapping[str, int], resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """Mean over slices of a difference by patient, and its 95 % interval from resampling patients with replacement."""
    patients = sorted(differences)
    d = np.array([differences[patient] for patient in patients])
    n = np.array([slices[patient] for patient in patients], dtype=np.float64)
    drawn = np.random.default_rng(0).integers(len(patients), size=(resamples, len(patients)))
    means = (d * n)[drawn].sum(axis=1) / n[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float((d * n).sum() / n.sum()), float(low), float(high)


def _row(ablation: Ablation, variant: Variant, results: Results) -> dict[str, Any]:
    mine, full = results[variant.name], results.get(ablation.full, {})
    paper_full = next(v.paper for v in ablation.variants if v.name == ablation.full)
    row: dict[str, Any] = {"variant": variant.name, "table": variant.table}
    row |= {"seeds": sorted(mine), "parameters": next(iter(mine.values()))["parameters"]}
    for metric in ("psnr", "ssim"):
        row[metric] = float(np.mean([result["figures"][metric] for result in mine.values()]))
    if variant.paper is not None and paper_full is not None:
        row["paper_difference"] = round(variant.paper - paper_full, 4)
    shared = sorted(mine.keys() & full.keys())
    if variant.name == ablation.full or not shared:
        return row
    for metric in ("psnr", "ssim"):
        by_seed = [_by_patient(mine[seed], metric) for seed in shared]
        full_by_seed = [_by_patient(full[seed], metric) for seed in shared]
        differences = {
            patient: float(np.mean([a[patient] - b[patient] for a, b in zip(by_seed, full_by_seed, strict=True)]))
            for patient in by_seed[0]
        }
        slices = {p["patient"]: p["n_slices"] for p in mine[shared[0]]["figures"]["patients"]}
        mean, low, high = paired_interval(differences, slices)
        row[f"{metric}_difference"] = {"mean": mean, "low": low, "high": high}
    return row


def _by_patient(result: Mapping[str, Any], metric: str) -> dict[str, float]:
    return {p["patient"]: p[metric] for p in result["figures"]["patients"] if p["quoted"]}


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
            f"paired, to `{ablation.full}`; the interval holds 95 % of {RESAMPLES:,} resamples of the patients, so it "
            "tells nothing of the luck of a training run. The paper's differences are of other images and a longer "
            "training.",
            "",
        ]
    for table in dict.fromkeys(variant.table for variant in ablation.variants):
        inside = [row for row in rows if row["table"] == table or row["variant"] == ablation.full]
        lines += [
            f"## {table}",
            "",
            "| variant | parameters | PSNR | SSIM | PSNR difference | SSIM difference | paper |",
        ]
        lines += ["|---|---:|---:|---:|---:|---:|---:|", *map(_line, inside), ""]
    missing = [variant.name for variant in ablation.variants if len(results.get(variant.name, {})) < ablation.seeds]
    if missing:
        lines += [f"Not finished: {', '.join(missing)}.", ""]
    return "\n".join([*lines, "Made by", "", f"    {command}", ""])


def _line(row: Mapping[str, Any]) -> str:
    cells = [row["variant"], f"{row['parameters']:,}", f"{row['psnr']:.2f}", f"{row['ssim']:.4f}"]
    for metric, digits in (("psnr", 2), ("ssim", 4)):
        d = row.get(f"{metric}_difference")
        cells.append(f"{d['mean']:+.{digits}f} [{d['low']:+.{digits}f}, {d['high']:+.{digits}f}]" if d else "")
    cells.append(f"{row['paper_difference']:+.2f}" if row.get("paper_difference") else "")
    return f"| {' | '.join(cells)} |"
