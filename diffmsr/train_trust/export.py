"""A fitted network is calibrated on patients of the validation part, and becomes a folder of weights."""

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as save_bytes

from diffmsr.data import DATASETS, DataError, Slice, usual_pair
from diffmsr.evaluate import stacks
from diffmsr.evaluate.acquisitions import Trial, trials
from diffmsr.evaluate.trust import MISLEADING, Judged, judged_stack
from diffmsr.inference import SuperResolver
from diffmsr.manifest import Manifest
from diffmsr.models import Model
from diffmsr.train import write_folder
from diffmsr.train_trust.loop import TrustRun, data_of, frozen
from diffmsr.train_trust.recipe import Recipe
from diffmsr.trust import Calibration, TrustManifest, TrustMap
from diffmsr.trust.calibration import IDENTITY, ErrorHistogram, curves_of, gain_of
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
        gain=calibration.gain,
        expected=calibration.expected,
        limit=calibration.limit,
        calibrated_on="; ".join(f"{name}: {n} patients of part {PART}" for name, n in count.items()),
        training_data="; ".join(DATASETS[name].training_note or name for name in sorted(recipe.data)),
        licence=manifest.licence,
        training={"patches": recipe.seen.slices, "steps": run.steps, "minutes": round(run.minutes, 1)},
        metrics={},
    )
    write_folder(folder, weights, made)
    return made


def _calibration(
    network: TrustNetwork, model: Model, manifest: Manifest, patients: dict[str, list[Slice]], recipe: Recipe
) -> Calibration:
    """The gain by clean targets with all references, right and misleading; then the curves by the named acquisitions. Each data set
    has the same weight in the curves."""
    resolver = SuperResolver(
        model, manifest, next(model.parameters()).device, torch.float32, trust=TrustMap(network.eval(), IDENTITY)
    )

    def judged(pieces: Sequence[Slice], trial: Trial, guide: str = "") -> list[Judged]:
        target, reference = usual_pair(pieces[0].images)
        by_patient = groupby(sorted(pieces, key=lambda piece: piece.subject), key=lambda piece: piece.subject)
        return [
            one
            for _, of in by_patient
            for stack in stacks(list(of), target)
            for one in judged_stack(stack, trial, target, reference, resolver, recipe.calibrate_every, guide)
        ]

    clean, *others = trials(())
    usual = {name: judged(pieces, clean) for name, pieces in patients.items()}
    slices = [one for of in usual.values() for one in of]
    slices += [one for pieces in patients.values() for how in MISLEADING.values() for one in judged(pieces, clean, how)]
    try:
        gain = gain_of(*zip(*((s.disagreement, s.expected.mean(), s.error.mean()) for s in slices), strict=True))
        histograms = []
        for name, pieces in patients.items():
            histogram = ErrorHistogram()
            for one in (*usual[name], *(one for trial in others for one in judged(pieces, trial))):
                histogram.add(one.expected * gain(np.array([one.disagreement], dtype=np.float32)), one.error)
            histograms.append(histogram)
        return curves_of(gain, histograms)
    except (ValueError, TypeError) as error:
        raise DataError(f"the trust map cannot be calibrated: {error}") from None
