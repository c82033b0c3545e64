"""Trained weights as a function on arrays: what the node runs."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from diffmsr import kspace
from diffmsr.fast import fast_network
from diffmsr.images import as_two_channels, from_two_channels
from diffmsr.manifest import WEIGHTS_FILE, Manifest, default_weights_folder, read_manifest
from diffmsr.model import DiffMSR, Network, build
from diffmsr.presets import PRESETS

Images = NDArray[Any]
"""float32, or complex64 where the weights take complex images."""


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Of the network's arithmetic; transforms, and what goes in and out, are always float32."""


class WeightsError(ValueError):
    """A weights file is missing, damaged, or not what its manifest says."""


class SuperResolver:
    """A network with its weights, on a device, ready to use."""

    def __init__(
        self,
        model: Network,
        manifest: Manifest,
        device: torch.device,
        dtype: torch.dtype,
        fast: bool = True,
        data_consistency: bool = False,
    ) -> None:
        """`fast` chooses the folded network of `fast.py`, which gives the same images but for rounding; the plain network otherwise."""
        self.manifest = manifest
        model = model.to(device).eval()
        self._model = fast_network(model, dtype) if fast and isinstance(model, DiffMSR) else model
        self._autocast = dtype is not torch.float32 and self._model is model
        self._data_consistency = data_consistency
        self._z_size = model.preset.z_size
        self._device = device
        self._dtype = dtype

    @classmethod
    def load(
        cls,
        folder: Path | None = None,
        device: str = "cpu",
        precision: str = "float32",
        fast: bool = True,
        data_consistency: bool = False,
    ) -> "SuperResolver":
        """Read a weights folder (the shipped one when None). With `data_consistency` the network's answer gets the
        target's own k-space back where that was measured. Raises ManifestError or WeightsError, in one line."""
        if precision not in PRECISIONS:
            raise ValueError(f"unknown precision {precision!r}; known are {', '.join(PRECISIONS)}")
        folder = folder or default_weights_folder()
        manifest = read_manifest(folder)
        if manifest.preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise WeightsError(f"{folder}: unknown preset {manifest.preset!r}; this version knows {known}")
        model = build(PRESETS[manifest.preset])
        load_weights(model, folder / WEIGHTS_FILE, manifest.sha256)
        return cls(model, manifest, torch.device(device), PRECISIONS[precision], fast, data_consistency)

    @torch.inference_mode()
    def __call__(self, target: Images, reference: Images, seeds: Sequence[int]) -> Images:
        """Super-resolve slices: target (n, h, w) and reference (n, s h, s w), magnitudes in any unit, one seed a slice
        for the noise Z_T, to (n, s h, s w) in the target's unit, finite and not negative.

        Weights whose manifest says `complex` take a complex target and give a complex image, phase and all.

        A slice's result does not depend on the others of its batch. Raises ValueError for shapes that do not fit and
        for values that are not finite, or not of the kind that the weights take.
        """
        self._check(target, reference, seeds)
        kind = np.complex64 if self.manifest.input_kind == "complex" else np.float32
        low, unit = _normalised(torch.from_numpy(np.ascontiguousarray(target, dtype=kind)).to(self._device))
        guide, _ = _normalised(torch.from_numpy(np.ascontiguousarray(reference, dtype=np.float32)).to(self._device))
        noise = torch.stack([self._noise(seed) for seed in seeds]).to(self._device)
        with torch.autocast(self._device.type, self._dtype, enabled=self._autocast):
            two = self._model(as_two_channels(low), as_two_channels(guide), noise).float()
        high = from_two_channels(two, self.manifest.input_kind)
        if self._data_consistency:
            high = kspace.data_consistent(high, low)
        high = high if high.is_complex() else high.clamp_min(0)
        images: Images = (high * unit).cpu().numpy()
        return images

    def _noise(self, seed: int) -> Tensor:
        """Z_T of one slice. Drawn on the CPU, so that every device gets the same."""
        return torch.randn(self._z_size, generator=torch.Generator().manual_seed(seed % 2**63))

    def _check(self, target: Images, reference: Images, seeds: Sequence[int]) -> None:
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


def load_weights(model: Network, path: Path, sha256: str | None = None) -> None:
    """Put the weights of a safetensors file into a model of the same preset; WeightsError, in one line, otherwise."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(f"{path} is not the file its manifest names (SHA-256 differs); fetch the weights again")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError):
        raise WeightsError(f"{path} is not a safetensors file (pickled checkpoints are never loaded)") from None
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError:
        raise WeightsError(f"{path} does not hold the weights of preset {model.preset.name}") from None


def _normalised(images: Tensor) -> tuple[Tensor, Tensor]:
    """Each slice over its own maximum, and those maxima (n, 1, 1); an empty slice stays zero."""
    magnitudes = images.abs() if images.is_complex() else images
    unit = magnitudes.amax(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return images / unit, unit
