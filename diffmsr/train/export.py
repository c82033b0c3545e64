"""A run becomes weights with a manifest."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, replace
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save as save_bytes
from torch import Tensor

from diffmsr.data import DATASETS, RESEARCH_ONLY, read_slices, usual_pair
from diffmsr.manifest import WEIGHTS_FILE, Manifest, TrainedPair
from diffmsr.train.checkpoint import CHECKPOINT, Run, initial_weights, resume
from diffmsr.train.config import Config, TrainingError, first_line
from diffmsr.train.progress import LOG
from diffmsr.trust import TrustManifest


def read_run(path: Path) -> tuple[Run, Config]:
    """A run on the CPU, and its configuration, from its folder or its checkpoint. The configuration is the last one in the
    log beside the checkpoint. Raises TrainingError, in one line."""
    folder = path if path.is_dir() else path.parent
    log = folder / LOG
    if not (folder / CHECKPOINT).exists():
        raise TrainingError(f"{folder} holds no {CHECKPOINT}; name the folder that diffmsr train wrote")
    try:
        records = [json.loads(line) for line in log.read_text().splitlines() if '"config"' in line]
        config = TypeAdapter(Config).validate_python(records[-1]["config"])
    except OSError as error:
        raise TrainingError(f"cannot read {log}, which holds the configuration of the run: {error.strerror}") from None
    except ValidationError as error:
        raise TrainingError(f"{log}: {first_line(error)}") from None
    except (ValueError, LookupError, TypeError):
        raise TrainingError(f"{log} holds no configuration of the run") from None
    config = replace(config, device="cpu", compile=False)
    return resume(config, folder), config


def export_weights(run: Run, config: Config, folder: Path, dtype: torch.dtype = torch.float32) -> Manifest:
    """Write the averaged weights as `model.safetensors` with a manifest, ready for `SuperResolver.load`.

    In float16 the file is half as large; inference computes in float32 all the same. Running statistics stay as they are, since
    a variance may exceed the range of float16. The manifest's metrics stay empty:
    `diffmsr evaluate` measures them afterwards. Raises TrainingError for a network with changed fields, because a
    manifest names a preset and nothing more; for a run that has not reached its last stage; and for weights that are not
    finite in this type.
    """
    if config.network:
        raise TrainingError("only an unchanged preset can be exported, not one with fields changed under `network`")
    if run.stage < run.model.config.stages:
        raise TrainingError(
            f"after {run.slices} slices stage two has not begun, and this network cannot run without it"
        )
    slices = (read_slices(name, Path(root), config.split.get(name)) for name, root in config.data.items())
    pairs = {TrainedPair(*usual_pair(piece.images)) for pieces in slices for piece in pieces}
    learnt = dict(run.average.named_parameters())
    tensors = {
        name: value.to(dtype if name in learnt else value.dtype).contiguous()
        for name, value in exported_tensors(run, config).items()
    }
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise TrainingError(f"{name} is not finite as {str(dtype).removeprefix('torch.')}")
    weights = save_bytes(tensors)
    manifest = manifest_of(run, config, pairs, hashlib.sha256(weights).hexdigest())
    write_folder(folder, weights, manifest)
    return manifest


def write_folder(folder: Path, weights: bytes, manifest: Manifest | TrustManifest) -> None:
    """Write a folder of weights. Raises TrainingError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS_FILE).write_bytes(weights)
        manifest.write(folder)
    except OSError as error:
        raise TrainingError(f"cannot write {manifest.name} into {folder}: {error.strerror}") from None


def exported_tensors(run: Run, config: Config) -> dict[str, Tensor]:
    """The averaged weights of a run, with `keep_initial` of those that it started from; a tensor that those do not have is
    the run's own."""
    trained = {name: value.to("cpu") for name, value in run.average.state_dict().items()}
    if not config.keep_initial or config.init is None:
        return trained
    initial = initial_weights(config.init)
    return {
        name: value.lerp(initial[name].to(value.dtype), config.keep_initial)
        if name in initial and initial[name].shape == value.shape and value.is_floating_point()
        else value
        for name, value in trained.items()
    }


def manifest_of(run: Run, config: Config, pairs: Iterable[TrainedPair], sha256: str = "") -> Manifest:
    """The manifest of a run's weights. The hash is empty for weights that are in no file."""
    return Manifest(
        name=f"diffmsr-{config.preset}",
        version=f"{run.slices}",
        preset=config.preset,
        sha256=sha256,
        scale=config.architecture.scale,
        input_kind=config.input_kind,
        grid_offset=0.0,
        normalisation="slice-max",
        trained_pairs=tuple(sorted(pairs, key=astuple)),
        training_data="; ".join(_note(name, config) for name in sorted(config.data)),
        licence=_licence(config),
        training={"stage": run.stage, "slices": run.slices, "minutes": round(run.minutes, 1)} | _origin(config),
        metrics={},
        consistency="low",
    )


def _origin(config: Config) -> dict[str, str]:
    """The weights that the run started from, and the share of them that was kept."""
    kept = {"share_of_those": f"{config.keep_initial:g}"} if config.keep_initial else {}
    return {"started_from": config.init.name} | kept if config.init else {}


def _licence(config: Config) -> str:
    """The licence of the data sets, if they have one in common."""
    licences = {DATASETS[name].weights_licence for name in config.data}
    return licences.pop() if len(licences) == 1 else RESEARCH_ONLY


def _note(name: str, config: Config) -> str:
    if DATASETS[name].training_note and name not in config.split:
        return DATASETS[name].training_note
    return f"{name}: {config.data[name]}" + (f", split by {config.split[name]}" if name in config.split else "")
