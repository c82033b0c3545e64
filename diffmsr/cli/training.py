"""`diffmsr train`, `train-trust`, `export`, `ablate`, `table1`: what makes weights."""

import shlex
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from diffmsr.cli.app import app, failed

DeviceOption = Annotated[str | None, typer.Option(help="Such as cuda, instead of the device in the file.")]


class StoredType(StrEnum):
    """How weights are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="TOML configuration, such as config/train.toml.")],
    output: Annotated[
        Path, typer.Option(help="Folder of checkpoint and log; training continues from a checkpoint there.")
    ],
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes; run again to continue.")] = None,
    export: Annotated[Path | None, typer.Option(help="When done, write model.safetensors and a manifest here.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log to OUTPUT/tensorboard too.")] = False,
    device: DeviceOption = None,
) -> None:
    """Train a network. The same command continues from a checkpoint, and runs under torchrun and accelerate launch."""
    from diffmsr.data import DataError
    from diffmsr.train import TrainingError, distributed, export_weights, read_config
    from diffmsr.train import train as run_training

    try:
        settings = read_config(config)
        settings = replace(settings, tensorboard=tensorboard or settings.tensorboard, device=device or settings.device)
        run = run_training(settings, output, minutes)
        if distributed.join(settings.device)[0]:
            return
        typer.echo(f"{run.slices} of {settings.slices} slices, {run.minutes:.1f} minutes", err=True)
        if export:
            manifest = export_weights(run, settings, export)
            typer.echo(f"{export}: {manifest.name} {manifest.version}, SHA-256 {manifest.sha256}", err=True)
    except (TrainingError, DataError) as error:
        raise failed(error) from None


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
        raise failed(error) from None


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
        raise failed(error) from None
    typer.echo(f"{output}: {manifest.name} {manifest.version}, SHA-256 {manifest.sha256}", err=True)


@app.command()
def ablate(
    output: Annotated[Path, typer.Option(help="Folder of the runs and tables; unfinished runs there are continued.")],
    config: Annotated[Path | None, typer.Argument(help="TOML file of variants; by default the paper's.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data set, instead of the one in the file.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Name of a variant; may be given several times.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of times that each variant is trained.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes; run again to continue.")] = None,
    device: DeviceOption = None,
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
    command += ["--device", device] if device else []
    try:
        ablation = read_ablation(config or ABLATIONS, root, seeds, device)
        say = partial(typer.echo, err=True)
        unfinished = run_ablation(ablation, output, shlex.join(command), only or (), minutes, say)
    except (TrainingError, DataError) as error:
        raise failed(error) from None
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
        raise failed(error) from None
    if unfinished:
        typer.echo(f"not finished: {', '.join(unfinished)}; run the same command again", err=True)
