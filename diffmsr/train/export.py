"""What becomes of a run: weights with a manifest."""

import hashlib
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

from safetensors.torch import save as save_bytes

from diffmsr.data import read_slices, usual_pair
from diffmsr.manifest import WEIGHTS_FILE, Manifest, TrainedPair
from diffmsr.train.checkpoint import Run, has_prior
from diffmsr.train.config import Config, TrainingError

DATA_NOTES = {
    "lgg": "TCGA-LGG as published by Buda et al. (non-commercial, share-alike), without site CS",
    "open_ms": "open_ms (CC BY, Lesjak et al. 2016), without patient04",
}


def export_weights(run: Run, config: Config, folder: Path) -> Manifest:
    """Write the averaged weights as `model.safetensors` with a manifest, ready for `SuperResolver.load`.

    The manifest's metrics stay empty: they are what `diffmsr evaluate` measures afterwards. Raises TrainingError for a
    network that is no preset, whose name would not say how to build it, and before stage two, without which there is
    no prior at inference.
    """
    if config.network:
        raise TrainingError("only a preset as it stands can be exported, not one with fields changed under `network`")
    if has_prior(run.model) and run.stage == 1:
        raise TrainingError(f"after {run.slices} slices stage two has not begun: there is no diffusion to export yet")
    slices = (read_slices(name, Path(root), config.split.get(name)) for name, root in config.data.items())
    pairs = {TrainedPair(*usual_pair(piece.images)) for pieces in slices for piece in pieces}
    folder.mkdir(parents=True, exist_ok=True)
    weights = save_bytes({name: value.contiguous().cpu() for name, value in run.average.state_dict().items()})
    (folder / WEIGHTS_FILE).write_bytes(weights)
    manifest = manifest_of(run, config, pairs, hashlib.sha256(weights).hexdigest())
    manifest.write(folder)
    return manifest


def manifest_of(run: Run, config: Config, pairs: Iterable[TrainedPair], sha256: str = "") -> Manifest:
    """What the weights of a run are; without a hash they are in no file."""
    return Manifest(
        name=f"diffmsr-{config.preset}",
        version=f"{run.slices}",
        preset=config.preset,
        sha256=sha256,
        scale=config.architecture.scale,
        input_kind="magnitude",
        grid_offset=0.0,
        normalisation="slice-max",
        trained_pairs=tuple(sorted(pairs, key=astuple)),
        training_data="; ".join(_note(name, config) for name in sorted(config.data)),
        licence="CC BY" if set(config.data) == {"open_ms"} else "research use only",
        training={"stage": run.stage, "slices": run.slices, "minutes": round(run.minutes, 1)},
        metrics={},
    )


def _note(name: str, config: Config) -> str:
    if name in DATA_NOTES and name not in config.split:
        return DATA_NOTES[name]
    return f"{name}: {config.data[name]}" + (f", split by {config.split[name]}" if name in config.split else "")
