"""A fitted network is calibrated on patients of the validation part, and becomes a folder of weights."""

import hashlib
from pathlib import Path

from safetensors.torch import save as save_bytes

from diffmsr.data import DATASETS, DataError, Slice, usual_pair
from diffmsr.evaluate import stacks
from diffmsr.evaluate.acquisitions import trials
from diffmsr.evaluate.trust import judged_stack
from diffmsr.inference import SuperResolver
from diffmsr.manifest import WEIGHTS_FILE, Manifest
from diffmsr.models import Model
from diffmsr.train import TrainingError
from diffmsr.train_trust.loop import TrustRun, data_of, frozen
from diffmsr.train_trust.recipe import Recipe
from diffmsr.trust import Calibration, TrustManifest, TrustMap
from diffmsr.trust.calibration import IDENTITY, ErrorHistogram, calibrated
from diffmsr.trust.network import TrustNetwork

PART = "validation"


def export_trust(run: TrustRun, recipe: Recipe, folder: Path) -> TrustManifest:
    """Calibrate a network on the validation part of the recipe's data sets and write it, with a manifest, into a folder: that
    named `trust` beside the weights. Raises TrainingError, and DataError where no patient is left to calibrate on."""
    manifest, model = frozen(recipe)
    patients = {name: [piece for piece in pieces if piece.part == PART] for name, pieces in data_of(recipe).items()}
    patients = {name: pieces for name, pieces in patients.items() if pieces}
    if not patients:
        raise DataError(f"no data set has patients of part {PART} to calibrate on")
    calibration = _calibration(run.network, model, manifest, patients, recipe)
    weights = save_bytes({name: value.contiguous().cpu() for name, value in run.network.state_dict().items()})
    count = {name: len({piece.subject for piece in pieces}) for name, pieces in patients.items()}
    made = TrustManifest(
        name="diffmsr-trust",
        version=f"{run.steps}",
        sha256=hashlib.sha256(weights).hexdigest(),
        of=manifest.sha256,
        expected=calibration.expected,
        limit=calibration.limit,
        calibrated_on="; ".join(f"{name}: {n} patients of part {PART}" for name, n in count.items()),
        training_data="; ".join(DATASETS[name].training_note or name for name in sorted(recipe.data)),
        licence=manifest.licence,
        training={"patches": recipe.seen.slices, "steps": run.steps, "minutes": round(run.minutes, 1)},
        metrics={},
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS_FILE).write_bytes(weights)
        made.write(folder)
    except OSError as error:
        raise TrainingError(f"cannot write the trust map into {folder}: {error.strerror}") from None
    return made


def _calibration(
    network: TrustNetwork, model: Model, manifest: Manifest, patients: dict[str, list[Slice]], recipe: Recipe
) -> Calibration:
    """By the named acquisitions, each data set with the same weight."""
    resolver = SuperResolver(
        model,
        manifest,
        next(model.parameters()).device,
        next(model.parameters()).dtype,
        trust=TrustMap(network, IDENTITY),
    )
    histograms = []
    for pieces in patients.values():
        histogram = ErrorHistogram()
        target, reference = usual_pair(pieces[0].images)
        for subject in sorted({piece.subject for piece in pieces}):
            for stack in stacks([piece for piece in pieces if piece.subject == subject], target):
                for trial in trials(()):
                    for one in judged_stack(stack, trial, target, reference, resolver, recipe.calibrate_every):
                        histogram.add(one.expected, one.error)
        histograms.append(histogram)
    try:
        return calibrated(histograms)
    except ValueError as error:
        raise DataError(str(error)) from None
