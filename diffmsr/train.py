"""Training in two stages. Progress is one integer, the slices seen; sampling, seeds and resuming all derive from it.

Started by `torchrun --nproc-per-node N`, N processes share each step: every one draws its own batch, the gradients are
averaged, the first process logs and saves. On a CPU, two processes of one thread are twice as fast as one of two.
"""

import copy
import hashlib
import json
import math
import os
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_bytes
from safetensors.torch import save_file
from torch import Tensor

from diffmsr.data import READERS, Augmentation, DataError, Slice, degrade, training_sample
from diffmsr.images import as_two_channels, zero_filled
from diffmsr.losses import DC_WEIGHT, data_consistency_loss, image_loss, prior_loss
from diffmsr.manifest import WEIGHTS_FILE, Manifest, TrainedPair
from diffmsr.metrics import psnr
from diffmsr.model import DiffMSR
from diffmsr.presets import PRESETS, Preset

TRAINED_PAIRS = {"lgg": TrainedPair("T2-FLAIR", "T1"), "open_ms": TrainedPair("T2", "T1")}
DATA_NOTES = {
    "lgg": "TCGA-LGG as published by Buda et al. (non-commercial, share-alike), without site CS",
    "open_ms": "open_ms (CC BY, Lesjak et al. 2016), without patient04",
}
CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"


class TrainingError(ValueError):
    """A training configuration or a checkpoint is wrong."""


@dataclass(frozen=True)
class Stage:
    """One of the two stages: how long, on what, how fast."""

    slices: int
    learning_rate: float
    patch: int = 128
    """Side of a training patch in high-resolution pixels."""
    batch: int = 8
    """Slices a step, in each process."""


@dataclass(frozen=True)
class Config:
    """A training run, read from TOML; every key of the file must be one of these."""

    data: Mapping[str, str]
    """Folder of each data set, by reader: lgg, open_ms."""
    share: Mapping[str, float]
    """How often a sample comes from each of them."""
    stage_one: Stage
    stage_two: Stage
    augmentation: Augmentation = field(default_factory=Augmentation)
    preset: str = "tiny"
    seed: int = 0
    warmup: int = 4000
    """Slices over which each stage's learning rate rises; it then falls as a cosine to a fiftieth."""
    ema: float = 0.999
    """Decay of the averaged weights, a step; shorter at the beginning of a stage."""
    clip: float = 1.0
    """Largest norm of a gradient."""
    precision: str = "bfloat16"
    """Of the network; transforms and losses are always float32."""
    device: str = "cpu"
    log_every: int = 2000
    validate_every: int = 20000
    checkpoint_minutes: float = 3.0

    @property
    def slices(self) -> int:
        """Length of the whole run."""
        return self.stage_one.slices + self.stage_two.slices


def read_config(path: Path) -> Config:
    """A configuration from TOML. Raises TrainingError, in one line."""
    try:
        values = tomllib.loads(path.read_text())
        values |= {name: Stage(**values[name]) for name in ("stage_one", "stage_two")}
        values["augmentation"] = Augmentation(**values.get("augmentation", {}))
        config = Config(**values)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path}: {type(error).__name__}: {error}") from None
    if config.preset not in PRESETS:
        raise TrainingError(f"{path}: unknown preset {config.preset!r}; known are {', '.join(PRESETS)}")
    if set(config.data) - set(READERS) or set(config.share) != set(config.data):
        raise TrainingError(f"{path}: data and share name the same data sets, of {', '.join(READERS)}")
    return config


@dataclass
class Run:
    """Everything that changes while training, and so everything a checkpoint holds."""

    model: DiffMSR
    average: DiffMSR
    optimizer: torch.optim.Adam
    stage: int
    slices: int = 0
    minutes: float = 0.0


def join_team() -> tuple[int, int]:
    """This process's rank and how many there are; (0, 1) unless torchrun started them."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("gloo")
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _average_gradients(parameters: Iterable[Tensor], processes: int) -> None:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, torch.split(flat / processes, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _agreed(stop: bool) -> bool:
    """Whether any process wants to stop; clocks differ, and one that goes on alone would wait for ever."""
    if not dist.is_initialized():
        return stop
    flag = torch.tensor(int(stop))
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def start(config: Config) -> Run:
    """A run before its first slice."""
    torch.manual_seed(config.seed)
    preset = PRESETS[config.preset]
    assert isinstance(preset, Preset)
    model = DiffMSR(preset).to(config.device)
    return Run(model, _average_of(model), _optimizer(model, stage=1), stage=1)


def _average_of(model: DiffMSR) -> DiffMSR:
    return copy.deepcopy(model).eval().requires_grad_(False)


def _optimizer(model: DiffMSR, stage: int) -> torch.optim.Adam:
    """Adam over the stage's parameters: the encoder in stage one, the diffusion in stage two, the rest in both."""
    model.diffusion.requires_grad_(stage == 2)
    model.encoder.requires_grad_(stage == 1)
    return torch.optim.Adam((p for p in model.parameters() if p.requires_grad), betas=(0.9, 0.99), fused=True)


def _enter_stage_two(run: Run) -> None:
    """The averaged encoder becomes the fixed teacher; the average starts again from the live weights."""
    run.model.encoder.load_state_dict(run.average.encoder.state_dict())
    run.average = _average_of(run.model)
    run.optimizer = _optimizer(run.model, stage=2)
    run.stage = 2


def learning_rate(config: Config, slices: int) -> float:
    """Rises over the warm-up, falls as a cosine to a fiftieth, in each stage anew."""
    stage, done = (
        (config.stage_one, slices)
        if slices < config.stage_one.slices
        else (config.stage_two, slices - config.stage_one.slices)
    )
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done / stage.slices)))
    return stage.learning_rate * min(1.0, (done + 1) / config.warmup) * (0.02 + 0.98 * cosine)


def draw_batch(config: Config, slices: Mapping[str, Sequence[Slice]], seen: int, stage: Stage) -> list[Tensor]:
    """Low, truth, reference and skip (b, 2, …) of the batch that follows after `seen` slices."""
    names = sorted(config.share)
    share = np.array([config.share[name] for name in names])
    samples = []
    for i in range(stage.batch):
        rng = np.random.default_rng([config.seed, seen + i])
        pool = slices[names[int(rng.choice(len(names), p=share / share.sum()))]]
        samples.append(training_sample(pool[int(rng.integers(len(pool)))], stage.patch, rng, config.augmentation))
    return [as_two_channels(torch.stack(part)).to(config.device) for part in zip(*samples, strict=True)]


def draw_noise(config: Config, seen: int, shape: Sequence[int]) -> Tensor:
    """Standard normal (b, latent) for the slices that follow after `seen`, each from a generator of its own."""
    seeds = (config.seed * 2**40 + seen + i for i in range(shape[0]))
    return torch.stack([torch.randn(shape[1], generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def batches(config: Config, slices: Mapping[str, Sequence[Slice]], seen: int) -> Iterator[list[Tensor]]:
    """This process's batches from `seen` slices to the run's end, each drawn in a thread while the last one is used."""
    rank, processes = join_team()
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = None
        while seen < config.slices:
            stage = config.stage_one if seen < config.stage_one.slices else config.stage_two
            drawn, waiting = waiting, pool.submit(draw_batch, config, slices, seen + rank * stage.batch, stage)
            seen += processes * stage.batch
            if drawn:
                yield drawn.result()
        if waiting:
            yield waiting.result()


def step(run: Run, config: Config, batch: Sequence[Tensor]) -> dict[str, float]:
    """One optimisation step; the losses, and advances the run."""
    low, truth, reference, skip = batch
    rank, processes = join_team()
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(config, run.slices)
    losses: dict[str, Tensor] = {}
    with torch.autocast(config.device, torch.bfloat16, enabled=config.precision == "bfloat16"):
        if run.stage == 1:
            prior = run.model.prior_of(truth, low)
        else:
            with torch.no_grad():
                target = run.model.prior_of(truth, low).float()
            noise = draw_noise(config, run.slices + rank * len(low), target.shape).to(config.device)
            prior = run.model.predicted_prior(low, run.model.diffusion.diffuse(target, noise))
            losses["diff"] = prior_loss(prior.float(), target)
        prediction = run.model.reconstruct(low, reference, prior, skip).float()
    losses["img"] = image_loss(prediction, truth)
    losses["dc"] = DC_WEIGHT * data_consistency_loss(prediction, truth, low)
    run.optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    if processes > 1:
        _average_gradients(run.model.parameters(), processes)
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), config.clip)
    run.optimizer.step()
    run.slices += processes * len(low)
    _update_average(run, config, processes)
    return {name: float(loss.detach()) for name, loss in losses.items()}


def _update_average(run: Run, config: Config, processes: int) -> None:
    stage_slices = run.slices - (config.stage_one.slices if run.stage == 2 else 0)
    batch = (config.stage_one if run.stage == 1 else config.stage_two).batch
    steps = stage_slices / (processes * batch)
    decay = min(config.ema, (1 + steps) / (10 + steps))
    with torch.no_grad():
        torch._foreach_lerp_(list(run.average.parameters()), list(run.model.parameters()), 1 - decay)


@torch.inference_mode()
def validate(model: DiffMSR, slices: Sequence[Slice], stage: int) -> dict[str, float]:
    """Mean gain in dB over the zero-filled image, a data set, with fixed phases and seeds; T1 guides.

    In stage one the prior comes from the truth, so the figure is one that inference cannot reach.
    """
    gains: dict[str, list[float]] = {}
    device = next(model.parameters()).device
    for piece in slices:
        contrast = "T2" if "T2" in piece.images else "T2-FLAIR"
        truth, reference = (torch.from_numpy(piece.images[name].astype(np.float32)) for name in (contrast, "T1"))
        low = degrade(truth, np.random.default_rng(piece.index))
        unit = low.amax().clamp_min(1e-3)
        two = [as_two_channels(x[None] / u).to(device) for x, u in
               ((low, unit), (truth, unit), (reference, reference.amax().clamp_min(1e-3)))]  # fmt: skip
        if stage == 1:
            prior = model.prior_of(two[1], two[0])
        else:
            noise = torch.randn(1, model.preset.latent, generator=torch.Generator().manual_seed(piece.index))
            prior = model.predicted_prior(two[0], noise.to(device))
        images = [model.reconstruct(two[0], two[2], prior), zero_filled(two[0], model.preset.scale)]
        of = two[1][0, 0].cpu().numpy()
        quality = [psnr(x[0, 0].clamp_min(0).cpu().numpy(), of, float(of.max())) for x in images]
        gains.setdefault(piece.dataset, []).append(quality[0] - quality[1])
    return {name: float(np.mean(values)) for name, values in gains.items()}


def save(run: Run, folder: Path) -> None:
    """Write the checkpoint, whole or not at all."""
    tensors = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in run.average.state_dict().items()}
    names = [name for name, parameter in run.model.named_parameters() if parameter.requires_grad]
    for name, state in zip(names, run.optimizer.state_dict()["state"].values(), strict=False):
        tensors |= {f"optimizer.{key}.{name}": value for key, value in state.items()}
    progress = {"stage": str(run.stage), "slices": str(run.slices), "minutes": f"{run.minutes:.3f}"}
    part = folder / (CHECKPOINT + ".part")
    save_file({name: value.contiguous() for name, value in tensors.items()}, part, metadata=progress)
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(folder / CHECKPOINT)


def resume(config: Config, folder: Path) -> Run:
    """The run a checkpoint was taken of. Raises TrainingError when it is damaged or of another network."""
    path = folder / CHECKPOINT
    run = start(config)
    try:
        with safe_open(path, framework="pt") as file:
            progress = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
        run.slices, run.minutes = int(progress["slices"]), float(progress["minutes"])
        if progress["stage"] == "2":
            _enter_stage_two(run)
        run.model.load_state_dict(_under("model.", tensors))
        run.average.load_state_dict(_under("average.", tensors))
        names = [name for name, parameter in run.model.named_parameters() if parameter.requires_grad]
        moments = {key: _under(f"optimizer.{key}.", tensors) for key in ("step", "exp_avg", "exp_avg_sq")}
        state = {
            i: {key: values[name] for key, values in moments.items()}
            for i, name in enumerate(names)
            if name in moments["step"]
        }
        run.optimizer.load_state_dict({"state": state, "param_groups": run.optimizer.state_dict()["param_groups"]})
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"{path} is not a checkpoint of preset {config.preset}: {reason}") from None
    return run


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def export_weights(run: Run, config: Config, folder: Path) -> Manifest:
    """Write the averaged weights as `model.safetensors` with a manifest, ready for `SuperResolver.load`.

    The manifest's metrics stay empty: they are what `diffmsr evaluate` measures afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = save_bytes({name: value.contiguous().cpu() for name, value in run.average.state_dict().items()})
    (folder / WEIGHTS_FILE).write_bytes(weights)
    manifest = Manifest(
        name=f"diffmsr-{config.preset}",
        version=f"{run.slices}",
        preset=config.preset,
        sha256=hashlib.sha256(weights).hexdigest(),
        scale=PRESETS[config.preset].scale,
        input_kind="magnitude",
        grid_offset=0.0,
        normalisation="slice-max",
        trained_pairs=tuple(TRAINED_PAIRS[name] for name in sorted(config.data)),
        training_data="; ".join(DATA_NOTES[name] for name in sorted(config.data)),
        licence="research use only" if "lgg" in config.data else "CC BY",
        training={"stage": run.stage, "slices": run.slices, "minutes": round(run.minutes, 1)},
        metrics={},
    )
    manifest.write(folder)
    return manifest


def train(config: Config, folder: Path, minutes: float | None = None) -> Run:
    """Train until the configured length, or for so many minutes; continues where a checkpoint in `folder` stands."""
    folder.mkdir(parents=True, exist_ok=True)
    slices = {name: READERS[name](Path(root)) for name, root in config.data.items()}
    seen = {name: [piece for piece in pieces if not piece.held_out] for name, pieces in slices.items()}
    unseen = [piece for pieces in slices.values() for piece in [p for p in pieces if p.held_out][::8]]
    if not all(seen.values()):
        raise DataError(f"no training slices in {', '.join(name for name, pieces in seen.items() if not pieces)}")
    run = resume(config, folder) if (folder / CHECKPOINT).exists() else start(config)
    rank, processes = join_team()
    with (folder / LOG if rank == 0 else Path(os.devnull)).open("a", buffering=1) as log:
        log.write(json.dumps({"slices": run.slices, "processes": processes, "config": asdict(config)}) + "\n")
        for record in _records(run, config, seen, unseen, folder, minutes):
            log.write(json.dumps(record) + "\n")
    return run


def _records(
    run: Run,
    config: Config,
    seen: Mapping[str, Sequence[Slice]],
    unseen: Sequence[Slice],
    folder: Path,
    minutes: float | None,
) -> Iterator[dict[str, Any]]:
    """The training loop; yields what is worth logging."""
    first = join_team()[0] == 0
    began, before, saved = time.monotonic(), run.minutes, time.monotonic()
    recent: list[dict[str, float]] = []
    for batch in batches(config, seen, run.slices):
        if minutes is not None and _agreed(run.minutes - before >= minutes):
            break
        if run.stage == 1 and run.slices >= config.stage_one.slices:
            _enter_stage_two(run)
            recent.clear()
        previous = run.slices
        recent.append(step(run, config, batch))
        run.minutes = before + (time.monotonic() - began) / 60
        if previous // config.log_every != run.slices // config.log_every:
            means = {name: float(np.mean([losses[name] for losses in recent])) for name in recent[0]}
            yield {"slices": run.slices, "stage": run.stage, "minutes": round(run.minutes, 2), **means}
            recent.clear()
        due = previous // config.validate_every != run.slices // config.validate_every or run.slices >= config.slices
        if first and due:
            yield {"slices": run.slices, "gain_db": validate(run.average, unseen, run.stage)}
        if first and time.monotonic() - saved > 60 * config.checkpoint_minutes:
            save(run, folder)
            saved = time.monotonic()
    if first:
        save(run, folder)
