"""What the frozen weights make of patches, and how wrong it is: computed once, kept beside the checkpoint of the run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffmsr.images import from_two_channels
from diffmsr.models import Batch, Model
from diffmsr.train import TrainingError
from diffmsr.train.sampling import Pools, draw_batch
from diffmsr.train_trust.corruption import corrupted
from diffmsr.train_trust.recipe import Recipe

CHUNK = 200
"""SeenPatches per file."""


@dataclass(frozen=True)
class SeenPatches:
    """skip, reference, image and error (n, h, w) in float16, facts (n, FEATURES): what `TrustNetwork` sees and should say."""

    skip: Tensor
    reference: Tensor
    image: Tensor
    error: Tensor
    facts: Tensor

    def flipped(self, which: Tensor, rows: bool, columns: bool) -> "SeenPatches":
        """Some of them in float32, mirrored along axes or not."""
        axes = [axis for axis, wanted in ((-2, rows), (-1, columns)) if wanted]
        skip, reference, image, error = (
            t[which].float().flip(axes) for t in (self.skip, self.reference, self.image, self.error)
        )
        return SeenPatches(skip, reference, image, error, self.facts[which])


def look(
    recipe: Recipe, folder: Path, pools: Pools, model: Model, goes_on: Callable[[int], bool]
) -> SeenPatches | None:
    """The recipe's patches, after the frozen weights. What an earlier call computed is read; `goes_on` is asked after each batch,
    with the number of patches there are, and None is returned when it says no."""
    parts: list[dict[str, Tensor]] = []
    for start in range(0, recipe.seen.slices, CHUNK):
        path = folder / f"seen-{start:06}.safetensors"
        if not path.exists():
            part = _chunk(recipe, start, pools, model, goes_on)
            if part is None:
                return None
            temporary = path.with_suffix(".part")
            save_file(part, temporary)
            temporary.replace(path)
        try:
            parts.append(load_file(path))
        except (SafetensorError, OSError) as error:
            raise TrainingError(f"{path} cannot be read: {str(error).partition(chr(10))[0]}; remove it") from None
    return SeenPatches(**{name: torch.cat([part[name] for part in parts])[: recipe.seen.slices] for name in parts[0]})


def _chunk(
    recipe: Recipe, start: int, pools: Pools, model: Model, goes_on: Callable[[int], bool]
) -> dict[str, Tensor] | None:
    change = partial(corrupted, shares=recipe.corruption)
    batches: list[dict[str, Tensor]] = []
    for at in range(start, min(start + CHUNK, recipe.seen.slices), recipe.seen.batch):
        batch = draw_batch(recipe, pools, at, recipe.seen, change)
        batches.append(_restored(batch.to(recipe.device), model))
        if not goes_on(at + recipe.seen.batch):
            return None
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


@torch.inference_mode()
def _restored(batch: Batch, model: Model) -> dict[str, Tensor]:
    image = from_two_channels(model.prediction(batch, model.config.stages), "magnitude")
    seen = {
        "skip": batch.skip[:, 0],
        "reference": batch.reference[:, 0],
        "image": image,
        "error": (image - batch.truth[:, 0]).abs(),
    }
    return {name: value.half().cpu().contiguous() for name, value in seen.items()} | {"facts": batch.facts.cpu()}
