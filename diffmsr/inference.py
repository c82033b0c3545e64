"""Trained weights as a function on arrays: what the node runs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from diffmsr import kspace
from diffmsr.acquisition import Acquisition, Undoing, features, left_over, onto_cropped_grid, onto_stored_grid, undo
from diffmsr.arrays import Magnitudes, Pixels
from diffmsr.consistency import consistent
from diffmsr.images import as_two_channels, from_two_channels
from diffmsr.manifest import WEIGHTS_FILE, Manifest, default_weights_folder, read_manifest
from diffmsr.models import Model, UnknownPresetError, build, in_precision, preset_named, standard_normal
from diffmsr.normalisation import normalised, slice_maximum
from diffmsr.trust.network import TrustNetwork, agreement
from diffmsr.trust.weights import TRUST_FOLDER, TrustMap, read_trust_manifest

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Of the network's arithmetic. Transforms, inputs and outputs are always float32."""


class WeightsError(ValueError):
    """A weights file is missing, damaged, or not the one that its manifest describes."""


@dataclass(frozen=True)
class Restored:
    """Super-resolved slices."""

    images: Pixels
    """(n, s h, s w), in the target's unit, finite and not negative."""
    expected_error: Magnitudes | None
    """The expected absolute error of each pixel, likewise; None without a trust map."""
    unit: Magnitudes
    """(n, 1, 1): the largest value of each slice as the network saw it."""
    disagreement: Magnitudes | None
    """(n,): how far edges of target and reference disagree, from 0 to 1; None without a trust map."""


class SuperResolver:
    """A network with its weights, on a device, ready to use."""

    def __init__(
        self,
        model: Model,
        manifest: Manifest,
        device: torch.device,
        dtype: torch.dtype,
        fast: bool = True,
        consistency: str | None = None,
        trust: TrustMap | None = None,
    ) -> None:
        """`fast` chooses the network's optimised form, whose images differ by rounding only; otherwise the plain one. `trust`
        predicts the error of each pixel."""
        self.manifest = manifest
        if device.type == "cuda":
            # Matrix products in TF32, as PyTorch's convolutions are: 5 to 10 % of a slice (docs/performance.md).
            torch.backends.cuda.matmul.allow_tf32 = True
        model = model.to(device).eval()
        self._noise_shape = model.noise_shape
        self._is_told = model.config.acquisition
        self._network = model.optimised(dtype) if fast else in_precision(model, dtype)
        self.consistency = consistency or manifest.consistency
        self._device = device
        self.trust = trust if trust is None else replace(trust, network=trust.network.to(device).eval())

    @classmethod
    def load(
        cls,
        folder: Path | None = None,
        device: str = "cpu",
        precision: str = "float32",
        fast: bool = True,
        consistency: str | None = None,
        peers: bool = False,
        trust: bool = False,
    ) -> "SuperResolver":
        """Read a weights folder (the shipped one when None).

        `consistency`, one of `consistency.REACH`, says which part of the result's k-space is replaced by the target's own; without
        it the manifest does. Weights of a network that is here to be compared only are refused unless `peers` is true. With
        `trust`, the trust map is read, too, where the folder has one for these weights. Raises ManifestError or WeightsError,
        in one line.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"unknown precision {precision!r}; known are {', '.join(PRECISIONS)}")
        folder = folder or default_weights_folder()
        manifest = read_manifest(folder)
        try:
            model = build(preset_named(manifest.preset))
        except UnknownPresetError as error:
            raise WeightsError(f"{folder}: {error}") from None
        if model.config.peer and not peers:
            raise WeightsError(
                f"{folder}: {manifest.preset} is a published network to compare with, not one to process images"
            )
        load_weights(model, folder / WEIGHTS_FILE, manifest.sha256)
        expecting = load_trust(folder, manifest) if trust else None
        return cls(model, manifest, torch.device(device), PRECISIONS[precision], fast, consistency, expecting)

    def __call__(
        self,
        target: Pixels,
        reference: Pixels,
        seeds: Sequence[int],
        acquisition: Acquisition = Acquisition(),
        undoing: Undoing = Undoing(),
    ) -> Pixels:
        """Super-resolve slices: target (n, h, w) as stored and reference (n, s h, s w), magnitudes in any unit, with one
        seed per slice for its noise, to (n, s h, s w) in the target's unit, finite and not negative.

        What is known of the target's `acquisition` is undone first, in the steps that `undoing` names. The network then
        works on the acquired matrix and is told of the rest, and its result comes back on the fine grid of the stored
        matrix, exactly aligned (pixel i of the target lies on pixel s i). What is unknown is left alone.

        Weights whose manifest says `complex` take a complex target and give a complex image with its phase.

        A slice's result does not depend on the others of its batch. Raises ValueError for shapes that do not fit, for
        values that are not finite, and for images of a kind that the weights do not take.
        """
        return self._restore(target, reference, seeds, acquisition, undoing, None).images

    def restore(
        self,
        target: Pixels,
        reference: Pixels,
        seeds: Sequence[int],
        acquisition: Acquisition = Acquisition(),
        undoing: Undoing = Undoing(),
    ) -> Restored:
        """The same, with the expected error of each pixel where there is a trust map."""
        return self._restore(target, reference, seeds, acquisition, undoing, self.trust)

    @torch.inference_mode()
    def _restore(
        self,
        target: Pixels,
        reference: Pixels,
        seeds: Sequence[int],
        acquisition: Acquisition,
        undoing: Undoing,
        trust: TrustMap | None,
    ) -> Restored:
        self._check(target, reference, seeds)
        kind = np.complex64 if self.manifest.input_kind == "complex" else np.float32
        low = torch.from_numpy(np.ascontiguousarray(target, dtype=kind)).to(self._device)
        guide = torch.from_numpy(np.ascontiguousarray(reference, dtype=np.float32)).to(self._device)
        if not low.is_complex():
            low = undo(low, acquisition, undoing)
            guide = onto_cropped_grid(guide, *(self.manifest.scale * n for n in low.shape[-2:]))
        unit = slice_maximum(low)
        low, guide = low / unit, normalised(guide)
        noise = standard_normal(seeds, self._noise_shape(*low.shape[-2:])).to(self._device)
        facts = features(left_over(acquisition, undoing)).expand(len(seeds), -1).to(self._device)
        told = (facts,) if self._is_told else ()
        two = self._network(as_two_channels(low), as_two_channels(guide), noise, *told).float()
        high = from_two_channels(two, self.manifest.input_kind)
        high = consistent(high, low, target, self.consistency)
        high = high if high.is_complex() else high.clamp_min(0)
        fine = reference.shape[-2:]
        expected, disagreement = (None, None) if trust is None else _expected_error(trust, low, guide, high, facts)
        if not high.is_complex():
            high = onto_stored_grid(high, *fine)
            expected = None if expected is None else onto_stored_grid(expected, *fine)
        return Restored(
            images=(high * unit).cpu().numpy(),
            expected_error=None if expected is None else (expected * unit).cpu().numpy(),
            unit=unit.cpu().numpy(),
            disagreement=None if disagreement is None else disagreement.cpu().numpy(),
        )

    def _check(self, target: Pixels, reference: Pixels, seeds: Sequence[int]) -> None:
        scale = self.manifest.scale
        if target.ndim != 3 or reference.ndim != 3:
            raise ValueError(
                f"target and reference must be (n, rows, columns), not {target.shape} and {reference.shape}"
            )
        n, h, w = target.shape
        if np.iscomplexobj(reference):
            raise ValueError("the reference must be magnitudes")
        if np.iscomplexobj(target) != (self.manifest.input_kind == "complex"):
            given = "complex images" if np.iscomplexobj(target) else "magnitudes"
            raise ValueError(f"{self.manifest.name} takes input of kind {self.manifest.input_kind}, not {given}")
        if n == 0:
            raise ValueError("there is no slice to super-resolve")
        if reference.shape != (n, scale * h, scale * w):
            raise ValueError(
                f"the reference of a target {target.shape} must be {(n, scale * h, scale * w)}, not {reference.shape}"
            )
        if len(seeds) != n:
            raise ValueError(f"{n} slices need {n} seeds, not {len(seeds)}")
        if not (np.isfinite(target).all() and np.isfinite(reference).all()):
            raise ValueError("target and reference must be finite")


def _expected_error(trust: TrustMap, low: Tensor, guide: Tensor, high: Tensor, facts: Tensor) -> tuple[Tensor, Tensor]:
    """Of each pixel of `high` (n, s h, s w), which `low` and `guide` gave; all normalised; and the disagreement (n,)."""
    skip = kspace.zero_fill(low, *high.shape[-2:])
    filled = skip.abs() if low.is_complex() else skip.real
    return trust(filled, guide, high.abs(), facts), 1 - agreement(filled, guide)[1][:, 0]


def load_trust(folder: Path, manifest: Manifest) -> TrustMap | None:
    """The trust map of a folder of weights; None where there is none, or one that was trained for other weights. Raises
    ManifestError or WeightsError, in one line."""
    of = read_trust_manifest(folder)
    if of is None or of.of != manifest.sha256:
        return None
    network = TrustNetwork()
    _load(network, folder / TRUST_FOLDER / WEIGHTS_FILE, of.sha256, "a trust network")
    return TrustMap(network, of.calibration, of.title)


def load_weights(model: Model, path: Path, sha256: str | None = None) -> None:
    """Put the weights of a safetensors file into a model of the same preset. Raises WeightsError, in one line."""
    _load(model, path, sha256, f"preset {model.config.name}")


def _load(network: nn.Module, path: Path, sha256: str | None, what: str) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(
            f"{path} is not the file that its manifest describes (SHA-256 differs); fetch the weights again"
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError):
        raise WeightsError(f"{path} is not a safetensors file (pickled checkpoints are never loaded)") from None
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError:
        raise WeightsError(f"{path} does not hold the weights of {what}") from None
