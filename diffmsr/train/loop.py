"""The training loop: equations 5 and 10 minimised, step by step."""

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffmsr.data import DataError, Slice, acquire, as_tensor, read_slices, usual_pair, with_phase
from diffmsr.images import as_two_channels, from_two_channels, zero_filled
from diffmsr.losses import data_consistency_loss, image_loss, prior_loss
from diffmsr.metrics import psnr
from diffmsr.model import Network
from diffmsr.train import team
from diffmsr.train.checkpoint import CHECKPOINT, Run, enter_stage_two, has_prior, resume, save, start, take_weights
from diffmsr.train.config import Config, TrainingError, check, learning_rate
from diffmsr.train.progress import Follower, following
from diffmsr.train.sampling import Batch, Pools, draw_noise, positions, steps


def train(config: Config, folder: Path, minutes: float | None = None) -> Run:
    """Train until the configured length, or for so many minutes; continues where a checkpoint in `folder` stands.

    SIGINT and SIGTERM end it as the minutes do: after the step, with a checkpoint. Raises TrainingError and DataError.
    """
    check(config)
    rank, processes = team.join(config.device)
    first = rank == 0
    slices = {name: read_slices(name, Path(root), config.split.get(name)) for name, root in config.data.items()}
    pools = {name: [piece for piece in pieces if piece.part == "train"] for name, pieces in slices.items()}
    unseen = [piece for pieces in slices.values() for piece in [p for p in pieces if p.held_out][::8]]
    if not all(pools.values()):
        raise DataError(f"no training slices in {', '.join(name for name, pool in pools.items() if not pool)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with following(config, folder, first) as follower, _stop_asked() as asked:
            run = _begin(config, folder, follower)
            follower.advanced(run.slices, run.stage)
            follower.record(slices=run.slices, processes=processes, config=asdict(config))
            _go_on(run, config, pools, unseen, folder, minutes, follower, asked)
            if first:
                save(run, folder)
    except OSError as error:
        raise TrainingError(f"cannot write into {folder}: {error.strerror or error}") from None
    return run


def _begin(config: Config, folder: Path, follower: Follower) -> Run:
    if (folder / CHECKPOINT).exists():
        return resume(config, folder)
    run = start(config)
    if config.init:
        taken = take_weights(run, config.init)
        if run.stage == 2:  # the teacher and the average are made of the weights that have just come
            enter_stage_two(run, config)
        follower.record(slices=0, init=taken)
        follower.say(taken)
    return run


@contextmanager
def _stop_asked() -> Iterator[threading.Event]:
    """Set by the first SIGINT or SIGTERM; a second one does what it always does."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may handle signals
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _go_on(
    run: Run,
    config: Config,
    pools: Pools,
    unseen: Sequence[Slice],
    folder: Path,
    minutes: float | None,
    follower: Follower,
    asked: threading.Event,
) -> None:
    rank, processes = team.join(config.device)
    began, before, saved = time.monotonic(), run.minutes, time.monotonic()
    recent: list[dict[str, Tensor]] = []
    for batches in steps(config, pools, run.slices, rank, processes):
        over = minutes is not None and run.minutes - before >= minutes
        if team.any_of(over or asked.is_set(), config.device):
            break
        if run.stage == 1 and config.stage_at(run.slices)[0] == 2:
            enter_stage_two(run, config)
            recent.clear()
        previous = run.slices
        recent.append(step(run, config, batches))
        run.minutes = before + (time.monotonic() - began) / 60
        follower.advanced(run.slices, run.stage)
        if previous // config.log_every != run.slices // config.log_every:
            losses = _mean(recent)
            follower.record(slices=run.slices, stage=run.stage, minutes=round(run.minutes, 2), **losses)
            recent.clear()
        if rank:
            continue
        if previous // config.validate_every != run.slices // config.validate_every or run.slices >= config.slices:
            follower.record(slices=run.slices, gain_db=validate(run.average, unseen, run.stage, config.input_kind))
        if time.monotonic() - saved > 60 * config.checkpoint_minutes:
            save(run, folder)
            saved = time.monotonic()


def step(run: Run, config: Config, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """One optimisation step over this process's batches; their mean losses, and advances the run.

    Raises TrainingError, before any weight moves, when a loss or a gradient is not finite.
    """
    rank, processes = team.join(config.device)
    _, stage, _ = config.stage_at(run.slices)
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(config, run.slices)
    parameters = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
    run.optimizer.zero_grad()
    parts = []
    for seen, batch in zip(positions(config, run.slices, stage, rank, processes), batches, strict=True):
        losses = _losses(run, config, batch, seen)
        (torch.stack(list(losses.values())).sum() / len(batches)).backward()  # type: ignore[no-untyped-call]
        parts.append({name: loss.detach() for name, loss in losses.items()})
    team.average(parameter.grad for parameter in parameters if parameter.grad is not None)
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
    after = run.slices + processes * config.accumulate * stage.batch
    if not torch.isfinite(norm):
        finite = all(bool(part.isfinite().all()) for batch in batches for part in batch)
        what = "the loss" if finite else "the data"
        raise TrainingError(
            f"{what} of slices {run.slices} to {after - 1} of the run is not finite; the step was refused and the last "
            f"checkpoint stays"
        )
    run.optimizer.step()
    run.slices = after
    _update_average(run, config, processes * config.accumulate)
    return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}


def _losses(run: Run, config: Config, batch: Batch, seen: int) -> dict[str, Tensor]:
    """Equation 5 in stage one, equation 10 in stage two, term by term."""
    low, truth, reference, skip = batch
    losses: dict[str, Tensor] = {}
    device = torch.device(config.device).type
    with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bfloat16"):
        prior = None
        if has_prior(run.model) and run.stage == 1:
            prior = run.model.prior_of(truth, low)
        elif has_prior(run.model):
            with torch.no_grad():
                target = run.model.prior_of(truth, low).float()
            noise = draw_noise(config, seen, target.shape)
            prior = run.model.predicted_prior(low, run.model.diffusion.diffuse(target, noise))
            losses["diff"] = prior_loss(prior.float(), target)
            if not config.joint:
                return losses
        prediction = run.reconstruct(low, reference, prior, skip).float()
    losses["img"] = image_loss(prediction, truth)
    if config.dc_weight:
        losses["dc"] = config.dc_weight * data_consistency_loss(prediction, truth, low)
    return losses


def _update_average(run: Run, config: Config, batches: int) -> None:
    _, stage, done = config.stage_at(run.slices - 1)
    taken = (done + 1) / (batches * stage.batch)
    decay = min(config.ema, (1 + taken) / (10 + taken))
    with torch.no_grad():
        torch._foreach_lerp_(list(run.average.parameters()), list(run.model.parameters()), 1 - decay)


def _mean(recent: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Losses of several steps and all processes."""
    means = {name: torch.stack([losses[name] for losses in recent]).mean() for name in recent[0]}
    team.average(means.values())
    return {name: float(mean) for name, mean in means.items()}


@torch.inference_mode()
def validate(model: Network, slices: Sequence[Slice], stage: int, input_kind: str) -> dict[str, float]:
    """Mean gain in dB over the zero-filled image, a data set, with fixed phases and seeds, of the usual pair.

    In stage one the prior comes from the truth, so the figure is one that inference cannot reach.
    """
    gains: dict[str, list[float]] = {}
    device = next(model.parameters()).device
    for piece in slices:
        target, reference = (as_tensor(piece.images[name]) for name in usual_pair(piece.images))
        rng = np.random.default_rng(piece.index)
        image, reference = with_phase(target, rng), reference.abs()
        low = acquire(image, rng)
        low, truth = (low, image) if input_kind == "complex" else (low.abs(), target.abs())
        unit = low.abs().amax().clamp_min(1e-3)
        two = [as_two_channels(x[None] / u).to(device) for x, u in
               ((low, unit), (truth, unit), (reference, reference.amax().clamp_min(1e-3)))]  # fmt: skip
        if has_prior(model) and stage == 1:
            prediction = model.reconstruct(two[0], two[2], model.prior_of(two[1], two[0]))
        else:
            noise = torch.randn(1, model.preset.z_size, generator=torch.Generator().manual_seed(piece.index))
            prediction = model(two[0], two[2], noise.to(device))
        images = [prediction, zero_filled(two[0], model.preset.scale)]
        of, *made = (from_two_channels(x, input_kind)[0].abs().cpu().numpy() for x in (two[1], *images))
        quality = [psnr(x, of, float(of.max())) for x in made]
        gains.setdefault(piece.dataset, []).append(quality[0] - quality[1])
    return {name: float(np.mean(values)) for name, values in gains.items()}
