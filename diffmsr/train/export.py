"""What becomes of a run: weights with a manifest."""

import hashlib
from pathlib import Path

from safetensors.torch import save as save_bytes

from diffmsr.manifest import WEIGHTS_FILE, Manifest, TrainedPair
from diffmsr.train.checkpoint import Run, has_prior
from diffmsr.train.config import Config, TrainingError

TRAINED_PAIRS = {"lgg": TrainedPair("T2-FLAIR", "T1"), "open_ms": TrainedPair("T2", "T1")}
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
    folder.mkdir(parents=True, exist_ok=True)
    weights = save_bytes({name: value.contiguous().cpu() for name, value in run.average.state_dict().items()})
    (folder / WEIGHTS_FILE).write_bytes(weights)
    manifest = Manifest(
        name=f"diffmsr-{config.preset}",
        version=f"{run.slices}",
        preset=config.preset,
        sha256=hashlib.sha256(weights).hexdigest(),
        scale=config.architecture.scale,
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
