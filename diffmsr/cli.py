"""The command line of the research side: `diffmsr train`, `train-trust`, `export`, `ablate`, `table1`, `evaluate`, `trust`, `lesions`,
`bench`."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from diffmsr.memory import keep_freed_memory

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class Metric(StrEnum):
    """Variants of the metrics."""

    FLOAT = "float"
    PUBLISHED = "published"


class StoredType(StrEnum):
    """How weights are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class Precision(StrEnum):
    """Precision of the networks' arithmetic."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


WeightsOption = Annotated[
    list[Path] | None,
    typer.Option(help="Folder of weights and manifest; may be given several times. By default the shipped ones."),
]


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="TOML configuration, such as config/train.toml.")],
    output: Annotated[
        Path, typer.Option(help="Folder of checkpoint and log; training continues from a checkpoint there.")
    ],
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes; run again to continue.")] = None,
    export: Annotated[Path | None, typer.Option(help="When done, write model.safetensors and a manifest here.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log to OUTPUT/tensorboard too.")] = False,
) -> None:
    """Train a network. The same command continues from a checkpoint, and runs under torchrun and accelerate launch."""
    from diffmsr.data import DataError
    from diffmsr.train import TrainingError, distributed, export_weights, read_config
    from diffmsr.train import train as run_training

    try:
        settings = read_config(config)
        if tensorboard:
            settings = replace(settings, tensorboard=True)
        run = run_training(settings, output, minutes)
        if distributed.join(settings.device)[0]:
            return
        typer.echo(f"{run.slices} of {settings.slices} slices, {run.minutes:.1f} minutes", err=True)
        if export:
            manifest = export_weights(run, settings, export)
            typer.echo(f"{export}: {manifest.name} {manifest.version}, SHA-256 {manifest.sha256}", err=True)
    except (TrainingError, DataError) as error:
        raise _failed(error) from None


@app.command("train-trust")
def train_trust(
    recipe: Annotated[Path, typer.Argument(help="TOML recipe, such as config/trust.toml.")],
    output: Annotated[
        Path, typer.Option(help="Folder of checkpoint and log; training continues from a checkpoint there.")
    ],
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes; run again to continue.")] = None,
    export: Annotated[
        Path | None, typer.Option(help="When done, calibrate, and write weights and manifest here: WEIGHTS/trust.")
    ] = None,
) -> None:
    """Train the trust map of frozen weights. The same command continues from a checkpoint."""
    from diffmsr.data import DataError
    from diffmsr.inference import WeightsError
    from diffmsr.manifest import ManifestError
    from diffmsr.train import TrainingError
    from diffmsr.train_trust import export_trust, fit, read_recipe

    try:
        settings = read_recipe(recipe)
        run = fit(settings, output, minutes)
        typer.echo(f"{run.steps} of {settings.steps} steps, {run.minutes:.1f} minutes", err=True)
        if export and run.steps >= settings.steps:
            manifest = export_trust(run, settings, export)
            typer.echo(f"{export}: {manifest.name} {manifest.version}, SHA-256 {manifest.sha256}", err=True)
    except (TrainingError, DataError, ManifestError, WeightsError) as error:
        raise _failed(error) from None


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder that diffmsr train wrote, or the checkpoint in it.")],
    output: Annotated[Path, typer.Option(help="Folder for model.safetensors and manifest.json.")],
    dtype: Annotated[StoredType, typer.Option(help="Type of the numbers in the file.")] = StoredType.FLOAT32,
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
    output: Annotated[Path, typer.Option(help="Folder of the runs and tables; unfinished runs there are continued.")],
    config: Annotated[Path | None, typer.Argument(help="TOML file of variants; by default the paper's.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data set, instead of the one in the file.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Name of a variant; may be given several times.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of times that each variant is trained.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes; run again to continue.")] = None,
) -> None:
    """Train and measure variants: the paper's Table 2, Table 3 and Figure 6, or your own.

    Several of these commands may run at once on one output folder: each takes a variant that no other process holds.
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
def table1(
    config: Annotated[Path, typer.Argument(help="TOML file of methods, such as config/table1.toml.")],
    output: Annotated[Path, typer.Option(help="Folder of the runs; unfinished runs there are continued.")],
    page: Annotated[
        Path | None, typer.Option(help="Write the results here, such as docs/table1.md, with a figure beside it.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Part of the split to measure: validation, as in the file, or held-out.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Name of a method; may be given several times.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes; run again to continue.")] = None,
) -> None:
    """Train and measure the methods of the paper's Table 1 for equal processor time, and write the table.

    Several of these commands may run at once on one output folder: each takes a method that no other process holds.
    """
    from diffmsr.data import DataError
    from diffmsr.table1 import read_plan, write_page
    from diffmsr.table1 import table1 as run_table
    from diffmsr.train import TrainingError

    try:
        plan = read_plan(config, split)
        try:
            unfinished = run_table(plan, output, only or (), minutes, partial(typer.echo, err=True))
        finally:
            if page and output.exists():
                write_page(plan, output, page)
    except (TrainingError, DataError) as error:
        raise _failed(error) from None
    if unfinished:
        typer.echo(f"not finished: {', '.join(unfinished)}; run the same command again", err=True)


@app.command()
def evaluate(
    dataset: Annotated[str, typer.Option(help="Name of a data set, such as lgg; docs/data.md lists them.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    target: Annotated[str | None, typer.Option(help="Contrast to super-resolve, such as T2, FLAIR or PD-FS.")] = None,
    reference: Annotated[str | None, typer.Option(help="Contrast that guides, such as T1 or PD.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Part of the split, or all; by default held-out, if there is one.")
    ] = None,
    split_file: Annotated[
        Path | None, typer.Option(help="Split in TOML or JSON; by default the data set's own.")
    ] = None,
    weights: WeightsOption = None,
    cnn: Annotated[Path | None, typer.Option(hidden=True, help="Now --weights, given once more.")] = None,
    metric: Annotated[Metric, typer.Option(help="published rounds to 8 bits and clips.")] = Metric.FLOAT,
    reference_shift: Annotated[float, typer.Option(help="Move the reference by so many pixels.")] = 0.0,
    without_reference: Annotated[bool, typer.Option("--without-reference", help="Give a reference of zeros.")] = False,
    foreign_reference: Annotated[
        bool, typer.Option("--foreign-reference", help="Give the next patient's reference.")
    ] = False,
    figure: Annotated[Path | None, typer.Option(help="Draw slices and error maps into this PNG file.")] = None,
    device: Annotated[str, typer.Option()] = "cpu",
    precision: Annotated[Precision, typer.Option()] = Precision.FLOAT32,
    data_consistency: Annotated[
        bool, typer.Option(help="Replace the measured part of k-space by the target's own.")
    ] = False,
    acquisition: Annotated[
        list[str] | None,
        typer.Option(help="Measure targets as a scanner stores them: clean, typical, ..., or all. Several times."),
    ] = None,
    undoing: Annotated[bool, typer.Option(help="Undo what is known of an --acquisition.")] = True,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Give the true --acquisition, not what header and images tell.")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="With --acquisition: every so many slices.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="All figures, by patient too, with definitions.")] = False,
) -> None:
    """Measure weights against truth, beside zero-filling, aligned bicubic interpolation and the shipped CNN baseline.

    With several --weights, the first are compared with each of the others. Means over slices and of the paired
    differences, with 95 % bootstrap intervals over patients. PSNR and SSIM with the truth's maximum as data range, over
    the whole frame; NRMSE is the norm of the error over that of the truth, HFEN the same of both seen through a Laplacian
    of a Gaussian (sigma 1.5, 15 x 15).

    With --acquisition, targets are simulated as scanners store them, their acquisition is estimated from the images and
    what headers usually tell, and gains are over the stored image; docs/acquisition.md lists the names.
    """
    from diffmsr.data import DataError
    from diffmsr.evaluate import Conditions, acquisition_table, evaluate_acquisitions, names_of, summary
    from diffmsr.evaluate import evaluate as measure
    from diffmsr.evaluate.acquisitions import NO_UNDOING
    from diffmsr.inference import SuperResolver, WeightsError
    from diffmsr.manifest import ManifestError, baseline_weights_folder, default_weights_folder

    if cnn:
        typer.echo("diffmsr: --cnn is deprecated; give these weights with another --weights", err=True)
    folders = [*(weights or [default_weights_folder()]), cnn or baseline_weights_folder()]
    conditions = Conditions(metric, reference_shift, without_reference, foreign_reference)
    try:
        with _usable(device):
            loaded = {
                name: SuperResolver.load(folder, device, precision, data_consistency=data_consistency, peers=True)
                for name, folder in names_of(folders).items()
            }
        if acquisition:
            names = () if acquisition == ["all"] else acquisition
            how = None if undoing else NO_UNDOING
            found = evaluate_acquisitions(
                dataset, root, loaded, names, target, reference, split, split_file, how, oracle, every
            )
            typer.echo(json.dumps(found, indent=2) if as_json else acquisition_table(found))
            return
        figures = measure(dataset, root, loaded, target, reference, split, split_file, conditions, figure_file=figure)
    except (ManifestError, WeightsError, DataError) as error:
        raise _failed(error) from None
    typer.echo(json.dumps(figures, indent=2) if as_json else summary(figures))


@app.command()
def trust(
    dataset: Annotated[str, typer.Option(help="Name of a data set, such as lgg.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    target: Annotated[str | None, typer.Option(help="Contrast to super-resolve, such as T2 or FLAIR.")] = None,
    reference: Annotated[str | None, typer.Option(help="Contrast that guides, such as T1.")] = None,
    split: Annotated[str | None, typer.Option(help="Part of the split, or all; by default held-out.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of weights with a trust map.")] = None,
    acquisition: Annotated[
        list[str] | None, typer.Option(help="Named acquisition, or several; by default all.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Every so many slices.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="All figures.")] = False,
) -> None:
    """Measure whether a trust map is right: expected beside true errors, also with references that mislead."""
    from diffmsr.data import DataError
    from diffmsr.evaluate import evaluate_trust, trust_table
    from diffmsr.inference import SuperResolver, WeightsError
    from diffmsr.manifest import ManifestError

    try:
        resolver = SuperResolver.load(weights, trust=True)
        figures = evaluate_trust(dataset, root, resolver, acquisition or (), target, reference, split, every)
    except (ManifestError, WeightsError, DataError) as error:
        raise _failed(error) from None
    typer.echo(json.dumps(figures, indent=2) if as_json else trust_table(figures))


@app.command()
def lesions(
    dataset: Annotated[str, typer.Option(help="Name of a data set with masks of lesions, such as open_ms_mni.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    target: Annotated[str | None, typer.Option(help="Contrast to super-resolve, such as T2 or FLAIR.")] = None,
    reference: Annotated[str | None, typer.Option(help="Contrast that guides, such as T1.")] = None,
    split: Annotated[str | None, typer.Option(help="Part of the split, or all.")] = None,
    weights: WeightsOption = None,
    device: Annotated[str, typer.Option()] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="All figures.")] = False,
) -> None:
    """Measure what becomes of lesions: contrast, volume and detection in truth, zero-filled, interpolated and
    super-resolved images, by size of the lesion; docs/data.md has the definitions."""
    from diffmsr.data import DataError
    from diffmsr.evaluate import evaluate_lesions, lesion_table, names_of
    from diffmsr.inference import SuperResolver, WeightsError
    from diffmsr.manifest import ManifestError, baseline_weights_folder, default_weights_folder

    folders = [*(weights or [default_weights_folder()]), baseline_weights_folder()]
    try:
        with _usable(device):
            loaded = {
                name: SuperResolver.load(folder, device, peers=True) for name, folder in names_of(folders).items()
            }
        figures = evaluate_lesions(dataset, root, loaded, target, reference, split)
    except (ManifestError, WeightsError, DataError) as error:
        raise _failed(error) from None
    typer.echo(json.dumps(figures, indent=2) if as_json else lesion_table(figures))


@app.command()
def bench(
    preset: Annotated[
        str, typer.Option(help="The network to time; parameters and FLOPs are counted of all.")
    ] = "paper",
    size: Annotated[int, typer.Option(min=16, help="Side of the low-resolution slice.")] = 64,
    batch: Annotated[list[int], typer.Option(min=1, help="Slices at once; may be given several times.")] = [1, 4, 16],  # noqa: B006 -- typer copies it
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds, in each of which everything runs once.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a CPU; by default as many as it has.")] = None,
    device: Annotated[str, typer.Option()] = "cpu",
    precision: Annotated[Precision, typer.Option(help="Of the optimised network.")] = Precision.FLOAT32,
    as_json: Annotated[bool, typer.Option("--json", help="All figures.")] = False,
) -> None:
    """Count parameters and FLOPs; time inference and training, plain and optimised alternately."""
    import torch

    from diffmsr.bench import measure, text
    from diffmsr.inference import PRECISIONS
    from diffmsr.models import UnknownPresetError, preset_named

    try:
        config = preset_named(preset)
    except UnknownPresetError as error:
        raise _failed(error) from None
    if threads:
        torch.set_num_threads(threads)
    with _usable(device):
        torch.empty(0, device=device)
    figures = measure(config, size, batch, rounds, device, PRECISIONS[precision])
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
