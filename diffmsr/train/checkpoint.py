"""The state of a run, and the file that keeps it. The file is written whole or not at all, and is never a pickle."""

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diffmsr.manifest import WEIGHTS_FILE
from diffmsr.models import Model, build
from diffmsr.train.config import Config, TrainingError

CHECKPOINT = "checkpoint.safetensors"


@dataclass
class Run:
    """Everything that changes during training. A checkpoint holds all of it."""

    model: Model
    average: Model
    """The moving average of the model's weights, which is validated and exported."""
    optimizer: torch.optim.Adam
    stage: int
    slices: int = 0
    minutes: float = 0.0


def start(config: Config) -> Run:
    """A run before its first slice."""
    torch.manual_seed(config.seed)
    model = build(config.architecture).to(config.device)
    if config.compile:
        model.compile_for_training()
    model.begin_stage(1, None, config.objective)
    run = Run(model, _average_of(model), _optimizer(model), stage=1)
    if config.stage_at(0)[0] == 2:
        enter_stage_two(run, config)
    return run


def enter_stage_two(run: Run, config: Config) -> None:
    """The model prepares itself from the averaged weights of stage one. The average starts again from the live weights."""
    run.model.begin_stage(2, run.average, config.objective)
    run.average = _average_of(run.model)
    run.optimizer = _optimizer(run.model)
    run.stage = 2


def _average_of(model: Model) -> Model:
    return copy.deepcopy(model).eval().requires_grad_(False)


def _optimizer(model: Model) -> torch.optim.Adam:
    """Adam over the parameters that the stage trains. Its learning rate is a tensor, which a replayed step reads."""
    trained = [p for p in model.parameters() if p.requires_grad]
    rate = torch.zeros((), device=trained[0].device)
    return torch.optim.Adam(trained, rate, betas=(0.9, 0.99), fused=True, capturable=trained[0].is_cuda)


def save(run: Run, folder: Path) -> None:
    """Replace the checkpoint once the new one is on the disk. When it cannot be written, the last one stays and
    TrainingError is raised."""
    tensors = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in run.average.state_dict().items()}
    names = [name for name, parameter in run.model.named_parameters() if parameter.requires_grad]
    for index, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{key}.{names[index]}": value for key, value in state.items()}
    progress = {
        "network": json.dumps(asdict(run.model.config)),
        "stage": str(run.stage),
        "slices": str(run.slices),
        "minutes": f"{run.minutes:.3f}",
    }
    write_checkpoint(folder, tensors, progress)


def write_checkpoint(folder: Path, tensors: Mapping[str, Tensor], progress: dict[str, str]) -> None:
    """Replace the checkpoint in a folder, as `save` does for a run."""
    path, part = folder / CHECKPOINT, folder / (CHECKPOINT + ".part")
    try:
        save_file({name: value.contiguous() for name, value in tensors.items()}, part, metadata=progress)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        kept = "the previous one stays" if path.exists() else "there is no previous one"
        raise TrainingError(f"cannot write checkpoint {path}: {_first_line(error)}; {kept}") from None


def resume(config: Config, folder: Path) -> Run:
    """The run as its checkpoint in `folder` left it. Raises TrainingError when that is damaged or of another network."""
    path = folder / CHECKPOINT
    run = start(config)
    try:
        tensors, progress = read_tensors(path)
        if differing := _differing(json.loads(progress["network"]), run.model):
            raise ValueError(f"it was written with {differing}; give this run another folder")
        run.slices, run.minutes = int(progress["slices"]), float(progress["minutes"])
        if progress["stage"] == "2" and config.stage_at(run.slices)[0] == 1:
            raise ValueError(
                f"after {run.slices} slices it is in stage two, but this configuration is in stage one then"
            )
        if progress["stage"] == "2" and run.stage == 1:
            enter_stage_two(run, config)
        run.model.load_state_dict(under("model.", tensors))
        run.average.load_state_dict(under("average.", tensors))
        names = [name for name, parameter in run.model.named_parameters() if parameter.requires_grad]
        moments = {key: under(f"optimizer.{key}.", tensors) for key in ("step", "exp_avg", "exp_avg_sq")}
        state = {
            index: {key: values[name] for key, values in moments.items()}
            for index, name in enumerate(names)
            if name in moments["step"]
        }
        run.optimizer.load_state_dict({"state": state, "param_groups": run.optimizer.state_dict()["param_groups"]})
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path} is not a checkpoint of preset {config.preset} as configured: {_first_line(error)}"
        ) from None
    return run


def _differing(of_checkpoint: Mapping[str, object], model: Model) -> str:
    """The fields in which the network of a checkpoint differs from the model, with their values; empty when none does."""
    here = json.loads(json.dumps(asdict(model.config)))
    if of_checkpoint["name"] != here["name"]:
        return f"preset {of_checkpoint['name']}"
    # Fields that this version does not have, such as z_size of `cnn` in 0.1.0, do not tell networks apart.
    differing = {name: value for name, value in of_checkpoint.items() if name in here and here[name] != value}
    return ", ".join(f"{name} = {value}" for name, value in differing.items())


def slices_of(folder: Path) -> int:
    """How many slices the run in a folder has seen; 0 without a checkpoint. Raises TrainingError when it is damaged."""
    return progress_of(folder)[1]


def progress_of(folder: Path) -> tuple[int, int]:
    """The stage that the run in a folder is in, and how many slices it has seen; 1 and 0 without a checkpoint. Raises
    TrainingError when it is damaged."""
    path = folder / CHECKPOINT
    if not path.exists():
        return 1, 0
    try:
        with safe_open(path, framework="pt") as file:
            return int(file.metadata()["stage"]), int(file.metadata()["slices"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} is not a checkpoint: {_first_line(error)}") from None


def take_weights(run: Run, folder: Path) -> str:
    """Copy into a new run every tensor of another run's checkpoint, or of exported weights, that fits by name and shape.

    Returns a line that names the tensors which did not fit. Raises TrainingError when the folder holds neither file, or
    nothing fits.
    """
    path, tensors = _initial(folder)
    live = under("model.", tensors) or tensors
    left = _copy_matching(live, run.model)
    _copy_matching(under("average.", tensors) or tensors, run.average)
    total = len(run.model.state_dict())
    if len(left) == total:
        raise TrainingError(f"init: nothing in {path} fits preset {run.model.config.name}")
    fresh = f"; not in it, and newly initialised: {', '.join(left)}" if left else ""
    return f"{total - len(left)} of {total} tensors from {path}{fresh}"


def initial_weights(folder: Path) -> dict[str, Tensor]:
    """The averaged weights that a run started from. Raises TrainingError when the folder holds none."""
    _, tensors = _initial(folder)
    return under("average.", tensors) or tensors


def _initial(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    path = next((folder / name for name in (CHECKPOINT, WEIGHTS_FILE) if (folder / name).exists()), None)
    if path is None:
        raise TrainingError(f"init: {folder} holds neither {CHECKPOINT} nor {WEIGHTS_FILE}")
    try:
        tensors, _ = read_tensors(path)
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"init: {path} is not a safetensors file: {_first_line(error)}") from None
    return path, tensors


def _copy_matching(source: Mapping[str, Tensor], model: Model) -> list[str]:
    """Copy what fits, and return the names of the model's tensors that the source does not have in their shape."""
    left = []
    for name, tensor in model.state_dict().items():
        if name in source and source[name].shape == tensor.shape:
            tensor.copy_(source[name])
        else:
            left.append(name)
    return left


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and what it says about them. Raises SafetensorError and OSError."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 -- no mapping


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose name begins with the prefix, by the rest of the name."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
