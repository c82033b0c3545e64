"""`diffmsr evaluate`, `trust`, `lesions`, `bench`: what measures weights."""

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diffmsr.cli.app import WeightsOption, app, failed, usable


class Metric(StrEnum):
    """Variants of the metrics."""

    FLOAT = "float"
    PUBLISHED = "published"


class Precision(StrEnum):
    """Precision of the networks' arithmetic."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Consistency(StrEnum):
    """The part of the target's measured k-space that is put back into a result."""

    NONE = "none"
    LOW = "low"
    FULL = "full"


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
        Consistency | None,
        typer.Option(help="Part of the measured k-space that is put back; by default the manifest's."),
    ] = None,
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
        with usable(device):
            loaded = {
                name: SuperResolver.load(folder, device, precision, consistency=data_consistency, peers=True)
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
        raise failed(error) from None
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
        raise failed(error) from None
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
        with usable(device):
            loaded = {
                name: SuperResolver.load(folder, device, peers=True) for name, folder in names_of(folders).items()
            }
        figures = evaluate_lesions(dataset, root, loaded, target, reference, split)
    except (ManifestError, WeightsError, DataError) as error:
        raise failed(error) from None
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
        raise failed(error) from None
    if threads:
        torch.set_num_threads(threads)
    with usable(device):
        torch.empty(0, device=device)
    figures = measure(config, size, batch, rounds, device, PRECISIONS[precision])
    figures = {"command": shlex.join(["diffmsr", *sys.argv[1:]]), **figures}
    typer.echo(json.dumps(figures, indent=2) if as_json else text(figures))
