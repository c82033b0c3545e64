"""The fit: patches go through the frozen weights, and the network learns how large their errors are."""

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from diffmsr.data import DataError, Slice, read_slices
from diffmsr.images import from_two_channels
from diffmsr.inference import WeightsError, load_weights
from diffmsr.manifest import WEIGHTS_FILE, Manifest, default_weights_folder, read_manifest
from diffmsr.models import Batch, Model, build, preset_named
from diffmsr.train import CHECKPOINT, TrainingError
from diffmsr.train.checkpoint import read_tensors, under, write_checkpoint
from diffmsr.train.config import cosine
from diffmsr.train.loop import stop_asked
from diffmsr.train.progress import following
from diffmsr.train.sampling import Pools, draw_batch
from diffmsr.train_trust.corruption import corrupted
from diffmsr.train_trust.recipe import Recipe
from diffmsr.trust.network import TrustNetwork, negative_log_likelihood


@dataclass
class TrustRun:
    """Everything that changes during a fit. A checkpoint holds all of it."""

    network: TrustNetwork
    optimizer: torch.optim.Adam
    slices: int = 0
    minutes: float = 0.0


def fit(recipe: Recipe, folder: Path, minutes: float | None = None) -> TrustRun:
    """Train for the recipe's number of slices, or for so many minutes. Continues from a checkpoint in `folder`; the same recipe
    gives the same network, even if interrupted.

    SIGINT and SIGTERM end it after the current step, with a checkpoint. Raises TrainingError, DataError, and what loading
    the frozen weights raises.
    """
    manifest, model = frozen(recipe)
    pools = {name: [piece for piece in pieces if piece.part == "train"] for name, pieces in data_of(recipe).items()}
    if not all(pools.values()):
        raise DataError(f"no training slices in {', '.join(name for name, pool in pools.items() if not pool)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with following(folder, recipe.fit.slices) as follower, stop_asked() as asked:
            run = _begin(recipe, folder)
            follower.record(slices=run.slices, of=manifest.sha256, config=asdict(recipe))
            began, before, saved = time.monotonic(), run.minutes, time.monotonic()
            recent: list[float] = []
            while run.slices < recipe.fit.slices and not asked.is_set():
                if minutes is not None and run.minutes - before >= minutes:
                    break
                recent.append(_step(run, recipe, pools, model))
                run.minutes = before + (time.monotonic() - began) / 60
                follower.advanced(run.slices, 1)
                if len(recent) * recipe.fit.batch >= recipe.log_every:
                    follower.record(slices=run.slices, minutes=round(run.minutes, 2), loss=sum(recent) / len(recent))
                    recent.clear()
                if time.monotonic() - saved > 60 * recipe.checkpoint_minutes:
                    _save(run, folder)
                    saved = time.monotonic()
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


def _step(run: TrustRun, recipe: Recipe, pools: Pools, model: Model) -> float:
    """One optimisation step; returns the loss."""
    change = partial(corrupted, shares=recipe.corruption)
    batch = draw_batch(recipe, pools, run.slices, recipe.fit, change).each(lambda t: t.to(recipe.device))
    share = run.slices / recipe.fit.slices
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.fit.learning_rate * min(1.0, (run.slices + 1) / max(1, recipe.warmup)) * cosine(share)
    skip, reference, image, error = _seen(batch, model)
    run.optimizer.zero_grad()
    loss = negative_log_likelihood(run.network(skip, reference, image, batch.facts), error)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(run.network.parameters(), recipe.clip)
    if not torch.isfinite(norm):
        raise TrainingError(
            f"the loss of slice {run.slices} of the run is not finite; the last checkpoint stays as it is"
        )
    run.optimizer.step()
    run.slices += recipe.fit.batch
    return float(loss.detach())


@torch.no_grad()
def _seen(batch: Batch, model: Model) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the network sees of a batch: zero-filled target, reference, super-resolved image (b, h, w); and the true error."""
    image = from_two_channels(model.prediction(batch, model.config.stages), "magnitude")
    return batch.skip[:, 0], batch.reference[:, 0], image, (image - batch.truth[:, 0]).abs()


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
        state = {i: {key: values[name] for key, values in moments.items()} for i, name in enumerate(names)}
        run.optimizer.load_state_dict({"state": state, "param_groups": run.optimizer.state_dict()["param_groups"]})
        run.slices, run.minutes = int(progress["slices"]), float(progress["minutes"])
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"{path} is not a checkpoint of a trust map: {reason}") from None
    return run


def _save(run: TrustRun, folder: Path) -> None:
    if not run.slices:
        return
    names = [name for name, _ in run.network.named_parameters()]
    tensors = {f"network.{name}": value for name, value in run.network.state_dict().items()}
    for index, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{key}.{names[index]}": value for key, value in state.items()}
    write_checkpoint(folder, tensors, {"slices": str(run.slices), "minutes": f"{run.minutes:.3f}"})
