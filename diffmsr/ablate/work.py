"""Train and measure variants, each in its own folder. Finished work is never repeated."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from diffmsr.ablate.plan import Ablation, Variant, as_json, config_of, runs_of
from diffmsr.ablate.table import Results, write_tables
from diffmsr.compare import VARIED, ElsewhereError, OutOfTimeError, held, patients_of, scores_of, write_json
from diffmsr.evaluate import evaluate
from diffmsr.inference import SuperResolver
from diffmsr.manifest import TrainedPair
from diffmsr.train import Run, TrainingError, train
from diffmsr.train.checkpoint import resume, slices_of
from diffmsr.train.config import Config
from diffmsr.train.export import manifest_of

CONFIG = "config.json"
RESULT = "result.json"
MINE = "variant"


def ablate(
    ablation: Ablation,
    output: Path,
    command: str,
    only: Sequence[str] = (),
    minutes: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Train and measure the variants (all, or those named), and write the tables into `output` after each.

    Started again, it continues. Started several times at once, each process takes variants that no other process holds.
    `say` is called with a line before each piece of work. Returns the unfinished variants. Raises DataError, and at the
    end TrainingError for variants that failed.
    """
    unknown = set(only) - {variant.name for variant in ablation.variants}
    if unknown:
        known = ", ".join(variant.name for variant in ablation.variants)
        raise TrainingError(f"unknown variant {', '.join(sorted(unknown))}; the variants are {known}")
    chosen = [variant for variant in ablation.variants if not only or variant.name in only]
    todo = [(variant, seed) for seed in range(ablation.seeds) for variant in chosen]
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    failures: list[str] = []
    before = None
    while todo and len(todo) != before:  # what another process held in one round may be free in the next
        before = len(todo)
        for variant, seed in list(todo):
            try:
                number = 1 + len(chosen) * ablation.seeds - len(todo)
                of = f"{number} of {len(chosen) * ablation.seeds}: {variant.name}, seed {seed}"
                _finish(ablation, variant, seed, output, deadline, partial(_say, say, of))
            except ElsewhereError:
                continue
            except OutOfTimeError:
                return _labels(todo)
            except TrainingError as error:
                failures.append(f"{variant.name}: {error}")
            todo.remove((variant, seed))
            write_tables(ablation, results_in(ablation, output), output, command)
    if failures:
        raise TrainingError(f"{len(failures)} of the variants failed; {'; '.join(failures)}")
    return _labels(todo)


def results_in(ablation: Ablation, output: Path) -> Results:
    """The results so far: by variant and seed."""
    results: Results = {}
    for variant in ablation.variants:
        for seed in range(ablation.seeds):
            path = runs_of(config_of(ablation, variant, seed), variant.name, _home(output, seed))[-1][0] / RESULT
            if path.exists():
                results.setdefault(variant.name, {})[seed] = json.loads(path.read_text())
    return results


def _say(say: Callable[[str], None], of: str, what: str) -> None:
    say(f"{of}: {what}")


def _finish(
    ablation: Ablation, variant: Variant, seed: int, output: Path, deadline: float | None, say: Callable[[str], None]
) -> None:
    runs = runs_of(config_of(ablation, variant, seed), variant.name, _home(output, seed))
    folder, config = runs[-1]
    for each, its_config in runs:
        _remember(each, its_config)
    if (folder / RESULT).exists():
        return
    for each, its_config in runs:
        with held(each):
            if slices_of(each) < its_config.slices:
                say(f"training in {each}")
                left = None if deadline is None else (deadline - time.monotonic()) / 60
                if train(its_config, each, left).slices < its_config.slices:
                    raise OutOfTimeError
    with held(folder):
        say("measuring")
        run = resume(config, folder)
        figures = _measured(ablation, run, config)
        parameters = sum(parameter.numel() for parameter in run.model.parameters())
        measured = {"parameters": parameters, "minutes": run.minutes, "figures": figures}
        write_json(folder / RESULT, measured | _varied(ablation, run, config))


def _measured(ablation: Ablation, run: Run, config: Config) -> dict[str, Any]:
    manifest = manifest_of(run, config, [TrainedPair(ablation.target, ablation.reference)])
    resolver = SuperResolver(run.average, manifest, torch.device(config.device), torch.float32)
    root = Path(config.data[ablation.dataset])
    split_file = config.split.get(ablation.dataset)
    weights = {manifest.name: resolver}
    return evaluate(ablation.dataset, root, weights, ablation.target, ablation.reference, split_file=split_file)


def _varied(ablation: Ablation, run: Run, config: Config) -> dict[str, Any]:
    """Where training varied the acquisitions: the scores of held-out slices with one of these each, by patient."""
    if config.acquisitions is None:
        return {}
    scores = scores_of(run.average, MINE, patients_of(config, ablation.dataset), config)
    return {"varied": {subject: [of[VARIED][MINE] for of in slices] for subject, slices in scores.items()}}


def _remember(folder: Path, config: Config) -> None:
    """Record the configuration of a folder. Raises TrainingError for a folder with another one: its results would pass as
    those of this configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CONFIG
    if not path.exists():
        write_json(path, asdict(config))
        return
    before, now = json.loads(path.read_text()), json.loads(as_json(config))
    changed = sorted(key for key in now if now[key] != before.get(key))
    if changed:
        raise TrainingError(f"{folder} was trained with other values of {', '.join(changed)}; use another --output")


def _home(output: Path, seed: int) -> Path:
    return output / f"seed-{seed}"


def _labels(todo: Sequence[tuple[Variant, int]]) -> list[str]:
    return [f"{variant.name} (seed {seed})" for variant, seed in todo]
