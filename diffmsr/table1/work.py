"""Train and measure every method, each in its own folder. Finished work is never repeated; more minutes continue it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diffmsr.compare import ElsewhereError, OutOfTimeError, held, patients_of, scores_of, write_json
from diffmsr.models import Model
from diffmsr.table1.budget import Costs, measured_costs, minutes_of, slices_for
from diffmsr.table1.plan import Method, Plan, training
from diffmsr.table1.speed import counts_of, has_steps, steps_of, times_of
from diffmsr.train import Config, TrainingError, resume, train
from diffmsr.train.checkpoint import progress_of

COSTS, TIMES, CONFIG, FAILED = "costs.json", "times.json", "config.json", "failed.json"


def table1(
    plan: Plan,
    output: Path,
    only: Sequence[str] = (),
    minutes: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Train and measure the methods (all, or those named) in `output`; then, when all are done, time them together.

    Started again, it continues, also in the middle of a method; with more `plan.minutes`, the runs go on. Started several
    times at once, each process takes methods that no other process holds. It stops after so many `minutes` by the clock.
    `say` is called with a line before each piece of work. Returns the unfinished methods. Raises DataError, and at the end
    TrainingError for methods that failed.
    """
    names = [method.name for method in plan.methods]
    if unknown := sorted(set(only) - set(names)):
        raise TrainingError(f"unknown method {', '.join(unknown)}; the methods are {', '.join(names)}")
    output.mkdir(parents=True, exist_ok=True)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    costs = costs_in(plan, output, say)
    todo = [method for method in plan.methods if not only or method.name in only]
    failures: list[str] = []
    before = None
    while todo and len(todo) != before:  # what another process held in one round may be free in the next
        before = len(todo)
        for method in list(todo):
            try:
                _finish(plan, method, costs, output, deadline, say)
            except ElsewhereError:
                continue
            except OutOfTimeError:
                return [each.name for each in todo]
            except TrainingError as error:
                failures.append(f"{method.name}: {error}")
            todo.remove(method)
    if not todo and not failures and len(results_in(plan, output)) == len(plan.methods):
        _time(plan, costs, output, say)
    if failures:
        raise TrainingError(f"{len(failures)} of the methods failed; {'; '.join(failures)}")
    return [each.name for each in todo]


def costs_in(plan: Plan, output: Path, say: Callable[[str], None]) -> Costs:
    """Processor seconds of a training slice by method, measured once for a folder. Raises TrainingError where another process
    is measuring them."""
    if known_costs(output).keys() != {method.name for method in plan.methods}:
        try:
            with held(output):
                say("measuring what a training step of each method costs")
                write_json(output / COSTS, measured_costs(plan, plan.rounds))
        except ElsewhereError:
            raise TrainingError(
                f"another process measures the costs in {output}; start this one when it trains"
            ) from None
    return known_costs(output)


def result_file(plan: Plan) -> str:
    """Name of the file of a method's scores."""
    return f"result-{plan.split}.json"


def results_in(plan: Plan, output: Path) -> dict[str, dict[str, Any]]:
    """The results so far, by method, of the slices that the plan measures."""
    paths = {method.name: output / method.folder / result_file(plan) for method in plan.methods}
    found = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    return {name: result for name, result in found.items() if result["every"] == plan.every}


def _finish(
    plan: Plan, method: Method, costs: Costs, output: Path, deadline: float | None, say: Callable[[str], None]
) -> None:
    folder = output / method.folder
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        config = config_in(plan, method, costs, folder)
        _, slices = progress_of(folder)
        if slices < config.slices:
            say(f"{method.name}: training, {slices} of {config.slices} slices so far")
            left = None if deadline is None else (deadline - time.monotonic()) / 60
            slices = _trained(config, folder, left)
        (folder / FAILED).unlink(missing_ok=True)
        path = folder / result_file(plan)
        if (
            path.exists()
            and (known := json.loads(path.read_text()))["slices"] == slices
            and known["every"] == plan.every
        ):
            return
        say(f"{method.name}: measuring")
        run = resume(config, folder)
        scores = scores_of(run.average, method.name, patients_of(config, plan.dataset, plan.split, plan.every), config)
        about = {"slices": slices, "minutes": minutes_of(config, slices, costs[method.name]), "every": plan.every}
        write_json(path, {**about, **counts_of(run.model.config), "patients": scores})


def _trained(config: Config, folder: Path, minutes: float | None) -> int:
    """Train to the end, and give the number of slices. Raises OutOfTimeError. A training that fails leaves a note of why in
    its folder, which the page shows, and raises TrainingError."""
    try:
        slices = train(config, folder, minutes).slices
    except TrainingError as error:
        write_json(folder / FAILED, {"failed": str(error)})
        raise
    if slices < config.slices:
        raise OutOfTimeError
    return slices


def config_in(plan: Plan, method: Method, costs: Costs, folder: Path) -> Config:
    """The configuration of a method's run, recorded in its folder. A run that has more slices than the plan pays for keeps
    them. Raises TrainingError for a folder that was trained with other values than its length."""
    path = folder / CONFIG
    before = json.loads(path.read_text()) if path.exists() else None
    stage, _ = progress_of(folder)
    kept = before["stage_one"]["slices"] if before and stage == 2 else None
    config = training(plan, method, slices_for(plan, method, costs, kept))
    now = json.loads(json.dumps(asdict(config), default=str))
    if before and (changed := sorted(key for key in now if _lasting(now[key]) != _lasting(before.get(key)))):
        raise TrainingError(f"{folder} was trained with other values of {', '.join(changed)}; use another --output")
    write_json(path, asdict(config))
    return config


def _lasting(value: Any) -> Any:
    """A value of a configuration without the length of a stage."""
    return {key: of for key, of in value.items() if key != "slices"} if isinstance(value, dict) else value


def _time(plan: Plan, costs: Costs, output: Path, say: Callable[[str], None]) -> None:
    """Time all methods together, once for each state of the runs."""
    path = output / TIMES
    trained = {method.name: progress_of(output / method.folder)[1] for method in plan.methods}
    if path.exists() and json.loads(path.read_text())["slices"] == trained:
        return
    try:
        with held(output):
            say("timing all methods together")
            models: dict[str, tuple[Model, Config]] = {}
            for method in plan.methods:
                config = config_in(plan, method, costs, output / method.folder)
                models[method.name] = (resume(config, output / method.folder).average, config)
            times = times_of({name: model for name, (model, _) in models.items()}, plan.rounds)
            diffusions = {name: of for name, of in models.items() if has_steps(of[0].config)}
            patients = patients_of(config, plan.dataset, plan.split, plan.every)
            figure = steps_of(diffusions, patients, plan.steps, plan.rounds) if diffusions else {}
            write_json(path, {"slices": trained, "inference": times, "steps": figure})
    except ElsewhereError:
        return


def times_in(output: Path) -> Mapping[str, Any] | None:
    """The times of all methods, once they are measured."""
    path = output / TIMES
    return json.loads(path.read_text()) if path.exists() else None


def known_costs(output: Path) -> Costs:
    """The measured costs; none before they are measured."""
    path = output / COSTS
    costs: Costs = json.loads(path.read_text())["seconds"] if path.exists() else {}
    return costs


def failures_in(plan: Plan, output: Path) -> dict[str, str]:
    """Why methods failed, by name."""
    paths = {method.name: output / method.folder / FAILED for method in plan.methods}
    return {name: json.loads(path.read_text())["failed"] for name, path in paths.items() if path.exists()}
