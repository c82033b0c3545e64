"""The fit: the network learns how large the errors of the frozen weights are."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from diffmsr.data import DataError, Slice, read_slices
from diffmsr.inference import WeightsError, load_weights
from diffmsr.manifest import WEIGHTS_FILE, Manifest, default_weights_folder, read_manifest
from diffmsr.models import Model, build, preset_named
from diffmsr.train import CHECKPOINT, TrainingError
from diffmsr.train.checkpoint import read_tensors, under, write_checkpoint
from diffmsr.train.config import cosine
from diffmsr.train.loop import stop_asked
from diffmsr.train.progress import Follower, following
from diffmsr.train_trust.recipe import Recipe
from diffmsr.train_trust.seen import SeenPatches, look
from diffmsr.trust.network import TrustNetwork, negative_log_likelihood


@dataclass
class TrustRun:
    """Everything that changes during a fit. A checkpoint holds all of it."""

    network: TrustNetwork
    optimizer: torch.optim.Adam
    steps: int = 0
    minutes: float = 0.0


def fit(recipe: Recipe, folder: Path, minutes: float | None = None) -> TrustRun:
    """Train by a recipe to its end, or for so many minutes. Continues from what is in `folder`; the same recipe gives the same
    network, even if interrupted.

    SIGINT and SIGTERM end it after the current step, with a checkpoint. Raises TrainingError, DataError, and what loading
    the frozen weights raises.
    """
    manifest, model = frozen(recipe)
    pools = {name: [piece for piece in pieces if piece.part == "train"] for name, pieces in data_of(recipe).items()}
    if not all(pools.values()):
        raise DataError(f"no training slices in {', '.join(name for name, pool in pools.items() if not pool)}")
    began = time.monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with following(folder, recipe.seen.slices + recipe.steps) as follower, stop_asked() as asked:
            run = _begin(recipe, folder)
            before = run.minutes
            follower.record(slices=0, of=manifest.sha256, config=asdict(recipe))

            def goes_on() -> bool:
                run.minutes = before + (time.monotonic() - began) / 60
                return not asked.is_set() and (minutes is None or run.minutes - before < minutes)

            def looking(slices: int) -> bool:
                follower.advanced(slices, 1)
                return goes_on()

            patches = look(recipe, folder, pools, model, looking)
            if patches is not None:
                _learn(run, recipe, patches, folder, follower, goes_on)
            _save(run, folder)
    except OSError as error:
        raise TrainingError(f"cannot write into {folder}: {error.strerror or error}") from None
    return run


def frozen(recipe: Recipe) -> tuple[Manifest, Model]:
    """The weights whose errors are predicted. Raises TrainingError, ManifestError and WeightsError."""
    folder = recipe.weights or default_weights_folder()
    manifest = read_manifest(folder)
    if manifest.input_kind != "magnitude":
        raise TrainingError(f"{manifest.name} takes {manifest.input_kind} images; a trust map is for magnitudes")
    try:
        model = build(preset_named(manifest.preset))
    except ValueError as error:
        raise WeightsError(f"{folder}: {error}") from None
    load_weights(model, folder / WEIGHTS_FILE, manifest.sha256)
    return manifest, model.to(recipe.device).eval().requires_grad_(False)


def data_of(recipe: Recipe) -> dict[str, list[Slice]]:
    """All slices of the recipe's data sets. Raises DataError."""
    return {name: read_slices(name, Path(root), recipe.split.get(name)) for name, root in recipe.data.items()}


def _learn(
    run: TrustRun, recipe: Recipe, patches: SeenPatches, folder: Path, follower: Follower, goes_on: Callable[[], bool]
) -> None:
    saved = time.monotonic()
    recent: list[float] = []
    while run.steps < recipe.steps and goes_on():
        recent.append(_step(run, recipe, patches))
        follower.advanced(recipe.seen.slices + run.steps, 2)
        if run.steps % recipe.log_every == 0:
            follower.record(
                slices=run.steps * recipe.fit.batch, minutes=round(run.minutes, 2), loss=sum(recent) / len(recent)
            )
            recent.clear()
        if time.monotonic() - saved > 60 * recipe.checkpoint_minutes:
            _save(run, folder)
            saved = time.monotonic()


def _step(run: TrustRun, recipe: Recipe, patches: SeenPatches) -> float:
    """One optimisation step; returns the loss. The step's number alone decides what it sees."""
    epoch, number = divmod(run.steps, recipe.seen.slices // recipe.fit.batch)
    order = np.random.default_rng([recipe.seed, epoch]).permutation(recipe.seen.slices)
    rows, columns = np.random.default_rng([recipe.seed, epoch, number]).random(2) < 0.5
    which = torch.from_numpy(order[number * recipe.fit.batch :][: recipe.fit.batch])
    batch = patches.flipped(which, bool(rows), bool(columns))
    for group in run.optimizer.param_groups:
        warm = min(1.0, (run.steps + 1) / max(1, recipe.warmup))
        group["lr"] = recipe.fit.learning_rate * warm * cosine(run.steps / recipe.steps)
    skip, reference, image, error, facts = (
        t.to(recipe.device) for t in (batch.skip, batch.reference, batch.image, batch.error, batch.facts)
    )
    run.optimizer.zero_grad()
    loss = negative_log_likelihood(run.network(skip, reference, image, facts), error)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(run.network.parameters(), recipe.clip)
    if not torch.isfinite(norm):
        raise TrainingError(f"the loss of step {run.steps} is not finite; the last checkpoint stays as it is")
    run.optimizer.step()
    run.steps += 1
    return float(loss.detach())


def _begin(recipe: Recipe, folder: Path) -> TrustRun:
    torch.manual_seed(recipe.seed)
    network = TrustNetwork().to(recipe.device)
    run = TrustRun(network, torch.optim.Adam(network.parameters(), betas=(0.9, 0.99)))
    path = folder / CHECKPOINT
    if not path.exists():
        return run
    try:
        tensors, progress = read_tensors(path)
        network.load_state_dict(under("network.", tensors))
        moments = {key: under(f"optimizer.{key}.", tensors) for key in ("step", "exp_avg", "exp_avg_sq")}
        names = [name for name, _ in network.named_parameters()]
        run.steps, run.minutes = int(progress["steps"]), float(progress["minutes"])
        if run.steps:
            state = {i: {key: values[name] for key, values in moments.items()} for i, name in enumerate(names)}
            groups = run.optimizer.state_dict()["param_groups"]
            run.optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"{path} is not a checkpoint of a trust map: {reason}") from None
    return run


def _save(run: TrustRun, folder: Path) -> None:
    names = [name for name, _ in run.network.named_parameters()]
    tensors = {f"network.{name}": value for name, value in run.network.state_dict().items()}
    for index, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{key}.{names[index]}": value for key, value in state.items()}
    write_checkpoint(folder, tensors, {"steps": str(run.steps), "minutes": f"{run.minutes:.3f}"})
