"""The page of results, from whatever a run has finished."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffmsr.compare import CLEAN, STORED, VARIED, replace_text
from diffmsr.evaluate import RESAMPLES, interval
from diffmsr.table1.chart import chart
from diffmsr.table1.plan import Method, Plan
from diffmsr.table1.work import failures_in, known_costs, results_in, times_in

Results = Mapping[str, Mapping[str, Any]]

INTRODUCTION = """# Table 1, re-run

The networks of the paper's Table 1, each rebuilt in one file from its publication (`diffmsr/models/peers/`), trained for equal
processor time on the same slices with the same seed and the same acquisitions, and measured alike. No code of other authors
was used, and nobody compared these networks with theirs: they follow the ideas of the publications, and what those leave open
was filled in here. The sizes are what two CPU cores can train, so the figures compare ideas at a small budget; they do not
repeat the publications. One command trains, measures and writes this page, goes on where it stopped, and goes on further when
`minutes` in the file is raised:

    OMP_NUM_THREADS=1 diffmsr table1 config/table1.toml --output RUN --page docs/table1.md

- **Equal time**: what a training step of each method costs in processor time is measured once, for all methods in turns. A
  method then trains for as many slices as its minutes pay for. So a busy machine changes neither budget nor result.
- **All networks** see the low-resolution target, the zero-filled target and the reference, and add detail to the
  zero-filled target. What is known of an acquisition is undone before any of them sees the image.
- **Clean** targets are acquired in full. **Varied** ones have one acquisition each, drawn from the mix that all trained on
  ([acquisition.md](acquisition.md)).
- **Parameters** are unique ones that inference needs; **GFLOP** are 2 x MAC of one slice of 256 x 256, all steps of a diffusion
  included; **ms** are medians of one run in which all methods took turns, in the form that inference runs.
- **Intervals** hold 95 % of {resamples:,} resamples of the patients. They do not show how much training runs differ by chance.
"""


def write_page(plan: Plan, output: Path, page: Path) -> None:
    """Write the page from the results in `output`, and Figure 1 beside it as `<page>-steps.svg`. What is not finished is named
    and has no figures."""
    results, times = results_in(plan, output), times_in(output)
    parts = [INTRODUCTION.format(resamples=RESAMPLES), _conditions(plan, results), _cost(plan, results, times, output)]
    parts += [_quality(plan, results, condition) for condition in (CLEAN, VARIED)]
    if times and times["steps"]:
        figure = page.with_name(f"{page.stem}-steps.svg")
        replace_text(figure, chart(times["steps"]["curves"]))
        parts.append(_steps(times["steps"], figure.name))
    parts += [_scaling(plan), _unfinished(plan, results, output)]
    replace_text(page, "\n\n".join(part.strip() for part in parts if part) + "\n")


def _conditions(plan: Plan, results: Results) -> str:
    if not results:
        return "No method has finished yet, so there are no figures."
    patients = next(iter(results.values()))["patients"]
    minutes = sorted(result["minutes"] for result in results.values())
    budget = (
        f"{minutes[-1]:.1f}"
        if minutes[-1] - minutes[0] < 0.1 * minutes[-1]
        else f"{minutes[0]:.1f} to {minutes[-1]:.1f}"
    )
    part = "of a site never trained on" if plan.split == "held-out" else f"of the part `{plan.split}`, never trained on"
    return (
        f"{budget} processor minutes of training per method, at the measured cost, on `{'`, `'.join(plan.train['data'])}`. Measured on "
        f"`{plan.dataset}`: {sum(map(len, patients.values()))} slices of {len(patients)} patients {part}."
    )


def _cost(plan: Plan, results: Results, times: Mapping[str, Any] | None, output: Path) -> str:
    """What each method costs, beside what its publication's network does by the paper."""
    if not results:
        return ""
    costs = known_costs(output)
    lines = [
        "## Cost",
        "",
        "| method | source | parameters | GFLOP | ms | slices trained | ms to train a slice | in the paper: parameters, GFLOP, ms |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for method in plan.methods:
        result = results.get(method.name)
        cells = [method.name, method.source]
        if result is None:
            cells += [""] * 5
        else:
            training = f" (+ {result['training_only'] / 1e6:.2f} M to train)" if result["training_only"] else ""
            ms = f"{times['inference']['ms'][method.name]['median']:.0f}" if times else ""
            cells += [f"{result['parameters'] / 1e6:.2f} M{training}", f"{result['gflop']:.1f}", ms]
            cells.append(f"{result['slices']:,}")
            cells.append(" then ".join(f"{1e3 * cost:.0f}" for cost in costs[method.name]))
        of = method.published
        cells.append(f"{of.parameters:g} M, {of.gflop:.0f}, {of.ms:g} (GPU)" if of else "")
        lines.append(f"| {' | '.join(cells)} |")
    if times:
        where = times["inference"]
        lines.append("")
        lines.append(
            f"Times on {where['machine']['device']}, {where['machine']['threads']} threads, {where['rounds']} rounds, load "
            f"{where['load']:.1f}."
        )
    return "\n".join(lines)


def _quality(plan: Plan, results: Results, condition: str) -> str:
    """PSNR and SSIM of one condition, and how far each method is from the compared one."""
    if not results:
        return ""
    first = next(iter(results))
    compared = next(method for method in plan.methods if method.name == plan.compared)
    paper = condition == CLEAN
    lines = [
        f"## {condition.capitalize()} targets",
        "",
        f"| method | PSNR, dB | SSIM | PSNR to {plan.compared} | SSIM to {plan.compared} |" + " in the paper |" * paper,
        "|---|---:|---:|---:|---:|" + "---:|" * paper,
        _quality_row(STORED, results[first]["patients"], results.get(plan.compared), plan.compared, condition)
        + " |" * paper,
    ]
    for method in plan.methods:
        if method.name in results:
            rows = results[method.name]["patients"]
            against = results.get(plan.compared) if method is not compared else None
            row = _quality_row(method.name, rows, against, plan.compared, condition)
            lines.append(row + f" {_paper(method, compared)} |" * paper)
    if paper:
        lines += [
            "",
            f"In the paper: PSNR to {plan.compared} of Clinical Brain, T2-FLAIR guided by T1, at full size and training.",
        ]
    return "\n".join(lines)


def _paper(method: Method, compared: Method) -> str:
    """How far the publications' networks are apart by the paper, in dB."""
    if method is compared or method.published is None or compared.published is None:
        return ""
    return f"{method.published.psnr - compared.published.psnr:+.2f}"


def _quality_row(
    name: str,
    patients: Mapping[str, Sequence[Any]],
    compared: Mapping[str, Any] | None,
    compared_name: str,
    condition: str,
) -> str:
    scores = [
        [
            {name: mine[condition][name]}
            | ({compared_name: compared["patients"][subject][i][condition][compared_name]} if compared else {})
            for i, mine in enumerate(slices)
        ]
        for subject, slices in patients.items()
    ]
    bounds = interval(scores, name)
    flat = [of[name] for group in scores for of in group]
    cells = [name]
    for metric, digits in (("psnr", 2), ("ssim", 4)):
        mean = sum(of[metric] for of in flat) / len(flat)
        cells.append(f"{mean:.{digits}f} [{bounds[metric][0]:.{digits}f}, {bounds[metric][1]:.{digits}f}]")
    for metric, digits in (("psnr", 2), ("ssim", 4)):
        gain = bounds["gains"][compared_name][metric] if compared else None
        low, high = gain["interval"] if gain else (0, 0)
        cells.append(f"{gain['mean']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]" if gain else "")
    return f"| {' | '.join(cells)} |"


def _steps(figure: Mapping[str, Any], name: str) -> str:
    """Figure 1 as table and picture."""
    curves = figure["curves"]
    lines = [
        "## Figure 1: quality and time against the steps of the diffusion",
        "",
        f"The trained networks, run with other numbers of steps without training again: mean PSNR of {figure['slices']} clean "
        "slices, one of each patient, and seconds per slice of 256 x 256 (medians, all in turns).",
        "",
        f"![PSNR and seconds per slice against the number of steps]({name})",
        "",
        "| steps | " + " | ".join(f"{each}: PSNR, dB | s" for each in curves) + " |",
        "|---:|" + "---:|---:|" * len(curves),
    ]
    for i, point in enumerate(next(iter(curves.values()))):
        cells = [f"{curve[i]['psnr']:.2f} | {curve[i]['seconds']:.3f}" for curve in curves.values()]
        lines.append(f"| {point['steps']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _scaling(plan: Plan) -> str:
    lines = ["## How each method was scaled", ""]
    for method in plan.methods:
        lines.append(
            f"- **{method.name}** ({method.source}): {method.scaled}{f' {method.note}' if method.note else ''}"
        )
    return "\n".join(lines)


def _unfinished(plan: Plan, results: Results, output: Path) -> str:
    failed = failures_in(plan, output)
    missing = [method.name for method in plan.methods if method.name not in results and method.name not in failed]
    lines = [f"{name} failed: {message}." for name, message in failed.items()]
    if missing:
        lines.append(f"Not finished: {', '.join(missing)}.")
    return "\n\n".join(lines)
