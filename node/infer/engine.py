"""The model as the node uses it: volumes and an order in, a Result out. The only importer of `diffmsr`."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from diffmsr.manifest import Manifest, ManifestError, default_weights_folder, read_manifest
from node.archive import Result
from node.config import ModelSettings
from node.errors import ModelError, RefusedError
from node.infer.geometry import fine_grid, resample_reference
from node.infer.volume import Volume
from node.tracker.orders import PairOrder

if TYPE_CHECKING:
    from diffmsr.inference import SuperResolver

_WELL_COVERED = 0.95
"""Below this share of a slice, the part super-resolved without a reference is worth a warning."""


def read_model(settings: ModelSettings) -> Manifest:
    """The manifest of the configured weights, without loading them. ModelError when it cannot be used."""
    try:
        return read_manifest(settings.path or default_weights_folder())
    except ManifestError as error:
        raise ModelError(f"[model] path: {error}") from None


class Engine:
    """Loaded weights on a device."""

    def __init__(self, resolver: "SuperResolver", device: str, settings: ModelSettings) -> None:
        self._resolver, self._settings = resolver, settings
        self.device = device
        self.name = f"{resolver.manifest.name} {resolver.manifest.version}"

    @classmethod
    def load(cls, settings: ModelSettings) -> "Engine":
        """Load the configured weights; device `auto` is the first CUDA device where there is one, else the CPU.
        Raises ModelError, with one line, when the weights or the device cannot be used."""
        # Imported here, since torch takes seconds and only the infer worker needs it.
        import torch

        from diffmsr.inference import SuperResolver, WeightsError

        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            resolver = SuperResolver.load(settings.path or default_weights_folder(), device, settings.precision)
        except (ManifestError, WeightsError) as error:
            raise ModelError(f"[model] path: {error}") from None
        except (RuntimeError, AssertionError) as error:  # what torch raises for a device that it does not have
            reason = str(error).partition("\n")[0]
            raise ModelError(f"[model] device = {settings.device!r} cannot be used: {reason}") from None
        return cls(resolver, device, settings)

    def super_resolve(
        self, target: Volume, reference: Volume, order: PairOrder, progress: Callable[[int, int], None]
    ) -> Result:
        """Super-resolve every slice of `target`, guided by `reference`.

        Where the order says that the scanner interpolated the target, its k-space is cropped to the acquired matrix
        first. `progress` is called with (slices done, slices in all) before the first batch and after each; what it
        raises ends the work. The same volumes, order, weights and settings give the same bytes. Raises RefusedError
        when the reference does not reach the target or the model cannot take its matrix, ModelError when the model's output is not finite.
        """
        manifest = self._resolver.manifest
        if order.acquired_matrix is not None:
            target = _as_acquired(target, order.acquired_matrix)
        guide = resample_reference(reference, target, manifest.scale, manifest.grid_offset)
        if not guide.coverage.any():
            raise RefusedError("E_NO_OVERLAP", "the reference does not reach any slice of the target")

        seeds = [_seed(name, manifest.sha256) for name in _names(target)]
        n, batch = len(seeds), self._settings.batch_slices
        pixels = np.empty_like(guide.pixels)
        progress(0, n)
        for start in range(0, n, batch):
            part = slice(start, start + batch)
            try:
                pixels[part] = self._resolver(target.pixels[part], guide.pixels[part], seeds[part])
            except ValueError as error:  # a matrix the network cannot take
                raise RefusedError("E_MODEL_INPUT", str(error)) from None
            progress(min(start + batch, n), n)
        if not np.isfinite(pixels).all():
            raise ModelError(f'model {self.name} gave values that are not finite; try [model] precision = "float32"')

        positions, spacing = fine_grid(
            target.positions, target.orientation, target.spacing, manifest.scale, manifest.grid_offset
        )
        return Result(
            pixels=pixels,
            positions=positions,
            orientation=target.orientation,
            spacing=spacing,
            source_uids=list(target.sop_uids),
            reference_uids=[[reference.sop_uids[i] for i in slices] for slices in guide.slices],
            model_name=manifest.name,
            model_version=manifest.version,
            weights_sha256=manifest.sha256,
            scale=manifest.scale,
            parameters=self._parameters(order),
            warnings=[*order.warnings, *_coverage_warnings(guide.coverage.tolist())],
            source_frames=None if target.frames is None else list(target.frames),
            reference_frames=_frames(reference, guide.slices),
        )

    def _parameters(self, order: PairOrder) -> dict[str, str]:
        """Everything besides sources and weights that changes pixels. Device and batch do, by rounding: on another
        device the result is not the same to the last bit, so it must not have the same identifiers."""
        parameters = {
            "batch slices": str(self._settings.batch_slices),
            "device": self.device.partition(":")[0],
            "grid offset": f"{self._resolver.manifest.grid_offset:g}",
            "precision": self._settings.precision,
            "reference interpolation": "cubic B-spline, mean over the slice thickness",
        }
        if order.acquired_matrix is not None:
            parameters["k-space cropped to"] = "{} x {}".format(*order.acquired_matrix)
        return parameters


def _as_acquired(target: Volume, matrix: tuple[int, int]) -> Volume:
    """Undo the scanner's interpolation: keep the (rows, columns) of k-space that were acquired. The field of view and
    the place of the first pixel stay (grid offset 0), so pixels grow by as much as they become fewer."""
    from diffmsr.kspace import crop_to

    rows, columns = target.pixels.shape[1:]
    kept = min(matrix[0], rows), min(matrix[1], columns)
    return replace(
        target,
        pixels=crop_to(target.pixels, *kept),
        spacing=(target.spacing[0] * rows / kept[0], target.spacing[1] * columns / kept[1]),
    )


def _names(target: Volume) -> list[str]:
    """A name for each slice, the same wherever and whenever it is read."""
    if target.frames is None:
        return list(target.sop_uids)
    return [f"{uid} frame {frame}" for uid, frame in zip(target.sop_uids, target.frames, strict=True)]


def _frames(reference: Volume, slices: list[list[int]]) -> list[list[int]] | None:
    """The frame numbers of reference slices, when its instances are multi-frame."""
    numbers = reference.frames
    return None if numbers is None else [[numbers[i] for i in indices] for indices in slices]


def _seed(name: str, weights_sha256: str) -> int:
    """Non-negative 63-bit seed of a slice's noise: the same slice and weights give the same image anywhere."""
    return int.from_bytes(hashlib.sha256(f"{name} {weights_sha256}".encode()).digest()[:8]) >> 1


def _coverage_warnings(coverage: list[float]) -> list[str]:
    badly = [share for share in coverage if share < _WELL_COVERED]
    if not badly:
        return []
    slices = f"{len(badly)} of {len(coverage)} slices"
    return [f"W_COVERAGE: the reference covers {slices} by less than {_WELL_COVERED:.0%}, at worst by {min(badly):.0%}"]
