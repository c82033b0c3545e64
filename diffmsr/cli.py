"""The research side's command line: `diffmsr train`, `export`, `ablate`, `evaluate`, `bench`."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from diffmsr.memory import keep_freed_memory

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class Dataset(StrEnum):
    """The data sets there is a reader for; diffmsr/data says what each expects."""

    LGG = "lgg"
    OPEN_MS = "open_ms"
    FASTMRI = "fastmri"
    FOLDER = "folder"


class Metric(StrEnum):
    """Variants of the metrics."""

    FLOAT = "float"
    PUBLISHED = "published"


class StoredType(StrEnum):
    """How weights are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class Precision(StrEnum):
    """Of the networks' arithmetic."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="TOML configuration, such as config/train.toml.")],
    output: Annotated[Path, typer.Option(help="Folder of checkpoint and log; a checkpoint there is continued.")],
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes; run again to continue.")] = None,
    export: Annotated[Path | None, typer.Option(help="When done, write model.safetensors and a manifest here.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log to OUTPUT/tensorboard too.")] = False,
) -> None:
    """Train both stages; the same command goes on from a checkpoint, and runs under torchrun and accelerate launch."""
    from diffmsr.data import DataError
    from diffmsr.train import TrainingError, export_weights, read_config, team
    from diffmsr.train import train as run_training

    try:
        settings = read_config(config)
        if tensorboard:
            settings = replace(settings, tensorboard=True)
        run = run_training(settings, output, minutes)
        if team.join(settings.device)[0]:
            return
        typer.echo(f"{run.slices} of {settings.slices} slices, {run.minutes:.1f} minutes", err=True)
        if export:
            manifest = export_weights(run, settings, export)
            typer.echo(f"{export}: {manifest.name} {manifest.version}, SHA-256 {manifest.sha256}", err=True)
    except (TrainingError, DataError) as error:
        raise _failed(error) from None


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder that diffmsr train wrote, or the checkpoint in it.")],
    output: Annotated[Path, typer.Option(help="Folder for model.safetensors and manifest.json.")],
    dtype: Annotated[StoredType, typer.Option(help="Of the numbers in the file.")] = StoredType.FLOAT32,
) -> None:
    """Write a run's averaged weights with a manifest, as the node and `evaluate` read them."""
    import torch

    from diffmsr.data import DataError
    from diffmsr.train import TrainingError, export_weights, read_run

    try:
        manifest = export_weights(*read_run(run), output, getattr(torch, dtype))
    except (TrainingError, DataError) as error:
        raise _failed(error) from None
    typer.echo(f"{output}: {manifest.name} {manifest.version}, SHA-256 {manifest.sha256}", err=True)


@app.command()
def ablate(
    output: Annotated[Path, typer.Option(help="Folder of the runs and tables; what is there is continued.")],
    config: Annotated[Path | None, typer.Argument(help="TOML file of variants; the paper's, if none is given.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data set, in place of the file's.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Name of a variant; may be given several times.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How often to train each variant.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes; run again to continue.")] = None,
) -> None:
    """Train and measure variants: the paper's Table 2, Table 3 and Figure 6, or your own.

    Several of these may run at once on one output folder: each takes the next variant that no other holds.
    """
    from diffmsr.ablate import ABLATIONS, TABLE_MARKDOWN, read_ablation
    from diffmsr.ablate import ablate as run_ablation
    from diffmsr.data import DataError
    from diffmsr.train import TrainingError

    command = ["diffmsr", "ablate", *([str(config)] if config else []), "--output", str(output)]
    command += [*(["--root", str(root)] if root else []), *(["--seeds", str(seeds)] if seeds else [])]
    try:
        ablation = read_ablation(config or ABLATIONS, root, seeds)
        say = partial(typer.echo, err=True)
        unfinished = run_ablation(ablation, output, shlex.join(command), only or (), minutes, say)
    except (TrainingError, DataError) as error:
        raise _failed(error) from None
    if unfinished:
        typer.echo(f"not finished: {', '.join(unfinished)}; run the same command again", err=True)
    table = output / TABLE_MARKDOWN
    if table.exists():
        typer.echo(table.read_text())


@app.command()
def evaluate(
    dataset: Annotated[Dataset, typer.Option()],
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    target: Annotated[str | None, typer.Option(help="Contrast to super-resolve; T2, T2-FLAIR or PD-FS.")] = None,
    reference: Annotated[str | None, typer.Option(help="Contrast that guides; T1 or PD.")] = None,
    split: Annotated[str | None, typer.Option(help="Part of the split, or all; held-out where there is one.")] = None,
    split_file: Annotated[Path | None, typer.Option(help="Split in TOML or JSON; the data set's own.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of weights and manifest; the shipped ones.")] = None,
    cnn: Annotated[Path | None, typer.Option(help="Folder of the CNN baseline's weights; the shipped ones.")] = None,
    metric: Annotated[Metric, typer.Option(help="published rounds to 8 bits and clips.")] = Metric.FLOAT,
    reference_shift: Annotated[float, typer.Option(help="Move the reference by so many pixels.")] = 0.0,
    without_reference: Annotated[bool, typer.Option("--without-reference", help="Give a reference of zeros.")] = False,
    foreign_reference: Annotated[
        bool, typer.Option("--foreign-reference", help="Give the next patient's reference.")
    ] = False,
    figure: Annotated[Path | None, typer.Option(help="Draw slices and error maps into this PNG file.")] = None,
    device: Annotated[str, typer.Option()] = "cpu",
    precision: Annotated[Precision, typer.Option()] = Precision.FLOAT32,
    data_consistency: Annotated[bool, typer.Option(help="Give the target's own k-space back.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All figures, by patient too, with definitions.")] = False,
) -> None:
    """Measure weights against truth, beside zero-filling, aligned bicubic interpolation and the CNN baseline.

    Means over slices with 95 % bootstrap intervals over patients. PSNR and SSIM with the truth's maximum as data
    range, over the whole frame; NRMSE is the norm of the error over that of the truth, HFEN the same of both seen
    through a Laplacian of a Gaussian (sigma 1.5, 15 x 15).
    """
    from diffmsr.data import DataError
    from diffmsr.evaluate import Protocol
    from diffmsr.evaluate import evaluate as measure
    from diffmsr.inference import SuperResolver, WeightsError
    from diffmsr.manifest import ManifestError, baseline_weights_folder

    protocol = Protocol(metric, reference_shift, without_reference, foreign_reference)
    try:
        with _usable(device):
            model, baseline = (
                SuperResolver.load(folder, device, precision, data_consistency=data_consistency)
                for folder in (weights, cnn or baseline_weights_folder())
            )
        figures = measure(
            dataset, root, model, target, reference, split, split_file, baseline, protocol, figure_file=figure
        )
    except (ManifestError, WeightsError, DataError) as error:
        raise _failed(error) from None
    typer.echo(json.dumps(figures, indent=2) if as_json else _table(figures))


def _table(figures: dict[str, Any]) -> str:
    """Means, and what the model gains with its interval, for reading."""
    intervals = figures["intervals"]
    lines = [
        f"{figures['target']} by {figures['reference']}: {figures['n_slices']} {figures['split']} slices of "
        f"{figures['n_patients']} patients; 95 % intervals over {intervals['over']}"
    ]
    for name, key in (("DiffMSR", None), ("zero-filled", "zero_filled"), ("bicubic", "bicubic"), ("CNN", "cnn")):
        if key and key not in figures:
            continue
        row = figures[key] if key else figures
        line = f"{name:12}{row['psnr']:7.2f} dB   SSIM {row['ssim']:.4f}   NRMSE {row['nrmse']:.4f}   HFEN {row['hfen']:.4f}"
        if key:
            gain = intervals["gains"][key]["psnr"]
            line += f"   DiffMSR {gain['mean']:+.2f} dB [{gain['interval'][0]:+.2f}, {gain['interval'][1]:+.2f}]"
        lines.append(line)
    return "\n".join([*lines, *figures["notes"]])


@app.command()
def bench(
    preset: Annotated[str, typer.Option(help="What to time; parameters and FLOPs are counted of all.")] = "paper",
    size: Annotated[int, typer.Option(min=16, help="Side of the low-resolution slice.")] = 64,
    batch: Annotated[list[int], typer.Option(min=1, help="Slices at once; may be given several times.")] = [1, 4, 16],  # noqa: B006 -- typer copies it
    rounds: Annotated[int, typer.Option(min=1, help="How often everything takes its turn.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Of a CPU; as many as it has.")] = None,
    device: Annotated[str, typer.Option()] = "cpu",
    precision: Annotated[str, typer.Option(help="Of the fast path: float32 or bfloat16.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="All figures.")] = False,
) -> None:
    """Count parameters and FLOPs; time inference and training, plain and fast in turns."""
    import torch

    from diffmsr.bench import measure, text
    from diffmsr.inference import PRECISIONS
    from diffmsr.presets import PRESETS, Preset

    chosen = PRESETS.get(preset)
    if not isinstance(chosen, Preset) or precision not in PRECISIONS:
        known = ", ".join(name for name, each in PRESETS.items() if isinstance(each, Preset))
        raise _failed(ValueError(f"preset must be one of {known}, precision one of {', '.join(PRECISIONS)}"))
    if threads:
        torch.set_num_threads(threads)
    with _usable(device):
        torch.empty(0, device=device)
    figures = measure(chosen, size, batch, rounds, device, PRECISIONS[precision])
    figures = {"command": shlex.join(["diffmsr", *sys.argv[1:]]), **figures}
    typer.echo(json.dumps(figures, indent=2) if as_json else text(figures))


@contextmanager
def _usable(device: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, AssertionError) as error:  # what torch raises for a device that it does not have
        raise _failed(ValueError(f"cannot use device {device}: {str(error).splitlines()[0]}")) from None


def _failed(error: Exception) -> typer.Exit:
    typer.echo(f"diffmsr: {error}", err=True)
    return typer.Exit(1)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script."""
    keep_freed_memory()
    try:
        app(arguments)
    except ModuleNotFoundError as error:
        if error.name not in ("nibabel", "h5py", "tensorboard"):
            raise
        typer.echo(f"diffmsr: {error.name} is missing: pip install 'diffmsr-node[train]'", err=True)
        sys.exit(1)
