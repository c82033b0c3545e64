"""The model as the node uses it: volumes and a request in, a Result out. The only importer of `diffmsr`."""

import hashlib
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffmsr.manifest import ManifestError
from node.config.settings import AcquisitionSettings, ModelSettings, RegistrationSettings, ReportSettings
from node.dicom.geometry import finer_grid
from node.errors import ModelError, RefusedError
from node.infer.acquisition import Understanding, understand, undone, without_filter
from node.infer.model import read_model, weights_folder
from node.infer.parameters import result_parameters
from node.infer.quality import departures, grade, seed_spread, trust_figures
from node.infer.registration import follow, judge, register
from node.infer.resample import Reference, resample_reference
from node.infer.tissue import tissue_covered
from node.infer.volume import Volume
from node.payloads import PairRequest
from node.result import Registration, Result

if TYPE_CHECKING:
    from diffmsr.inference import SuperResolver

_WELL_COVERED = 0.95
"""When the reference covers a smaller share of a slice than this, the result carries a warning."""
_LARGEST_HALF = float(np.finfo(np.float16).max)
_LEAST_TISSUE = 0.97
"""Of the target's tissue, which the reference must reach: it may leave out air and a part of the skin, no more."""


@dataclass(frozen=True)
class SuperResolved:
    """A result, and what the network saw."""

    result: Result
    target: Volume
    """As stored, at the low resolution."""
    reference: NDArray[np.float32]
    """(n, rows, columns) on the grid of the result; 0 where the reference does not reach."""


@dataclass(frozen=True)
class _Computed:
    """What the network gives of a stack."""

    pixels: NDArray[np.float32]
    expected_error: NDArray[np.float32] | None
    spread: list[float] | None


class Engine:
    """Loaded weights on a device."""

    def __init__(
        self,
        resolver: "SuperResolver",
        device: str,
        settings: ModelSettings,
        registration: RegistrationSettings,
        acquisition: AcquisitionSettings,
        report: ReportSettings,
    ) -> None:
        self._resolver, self._settings = resolver, settings
        self._registration, self._acquisition, self._report = registration, acquisition, report
        self.device = device
        self.name = f"{resolver.manifest.name} {resolver.manifest.version}"

    @classmethod
    def load(
        cls,
        settings: ModelSettings,
        registration: RegistrationSettings,
        acquisition: AcquisitionSettings,
        report: ReportSettings,
        device: str | None = None,
    ) -> "Engine":
        """Load the configured weights onto `device`, else onto the first one configured. "auto" and "all" are the first
        CUDA device where there is one, else the CPU. Raises ModelError, with one line, when the weights or the device
        cannot be used."""
        # Imported here, since torch takes seconds and only the infer worker needs it.
        import torch

        from diffmsr.inference import SuperResolver, WeightsError
        from diffmsr.memory import keep_freed_memory

        read_model(settings)
        keep_freed_memory()
        device = device or settings.devices[0]
        if device in ("auto", "all"):
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            consistency = "full" if settings.data_consistency else None
            resolver = SuperResolver.load(
                weights_folder(settings), device, settings.precision, consistency=consistency, trust=settings.trust
            )
        except (ManifestError, WeightsError) as error:
            raise ModelError(f"[model] path: {error}") from None
        except (RuntimeError, AssertionError) as error:  # what torch raises for a device that it does not have
            reason = str(error).partition("\n")[0]
            raise ModelError(f"[model] device = {device!r} cannot be used: {reason}") from None
        return cls(resolver, device, settings, registration, acquisition, report)

    def peak_memory(self) -> int:
        """The most memory that was in use at once, in bytes: of a GPU what torch allocated there, of a CPU what this
        process has."""
        import torch

        if self.device.startswith("cuda"):
            return int(torch.cuda.max_memory_allocated(self.device))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def super_resolve(
        self, target: Volume, reference: Volume, request: PairRequest, progress: Callable[[int, int], None]
    ) -> SuperResolved:
        """Super-resolve every slice of `target`, guided by `reference`.

        How the target was acquired is found out first, and undone as far as the settings say; the result has `scale` times
        the rows and columns of the stored target all the same. When the patient moved between the two series, the
        reference is moved accordingly, if the settings say so. `progress` is called with (slices done, slices in all)
        before the first batch and after each; an exception that it raises ends the work. The same volumes, request,
        weights and settings give the same bytes. Raises RefusedError when the reference does not reach the target, when
        it is displaced by more than the settings allow, or when too small a matrix was acquired; ModelError when the
        output of the model is not finite.
        """
        manifest = self._resolver.manifest
        understanding = understand(target, self._acquisition)
        measured = undone(target, understanding)
        guide, registration, warnings = self._guide(target, measured, reference)
        computed = self._run(target, guide, understanding, progress)
        inconsistency, drift = departures(computed.pixels, measured.pixels, target.pixels)
        if understanding.is_contradicted(inconsistency):
            understanding = without_filter(target, understanding)
            measured = undone(target, understanding)
            computed = self._run(target, guide, understanding, progress)
            inconsistency, drift = departures(computed.pixels, measured.pixels, target.pixels)
        expected = computed.expected_error
        trust = None if expected is None else trust_figures(computed.pixels, expected)
        quality = grade(inconsistency, drift, computed.spread, registration, self._report, trust)
        positions, spacing = finer_grid(
            target.positions, target.orientation, target.spacing, manifest.scale, manifest.grid_offset
        )
        result = Result(
            pixels=computed.pixels,
            expected_error=expected,
            positions=positions,
            orientation=target.orientation,
            spacing=spacing,
            source_uids=list(target.sop_uids),
            reference_uids=[[reference.sop_uids[i] for i in slices] for slices in guide.slices],
            model_name=manifest.name,
            model_version=manifest.version,
            weights_sha256=manifest.sha256,
            scale=manifest.scale,
            parameters=result_parameters(
                self._settings,
                self.device,
                self._batch,
                manifest.grid_offset,
                understanding,
                registration,
                self.trust,
                self._resolver.consistency,
            ),
            warnings=[
                *request.warnings,
                *understanding.warnings,
                *warnings,
                *_coverage_warnings(guide.coverage.tolist()),
            ],
            source_frames=None if target.frames is None else list(target.frames),
            reference_frames=_frames(reference, guide.slices),
            quality=quality,
            acquired=understanding.acquired,
        )
        return SuperResolved(result, target, guide.pixels)

    def _guide(
        self, target: Volume, measured: Volume, reference: Volume
    ) -> tuple[Reference, Registration | None, list[str]]:
        """The reference on the target's fine grid, moved if necessary, with the registration and warnings. It is compared
        with the target as `measured`, whose bandwidth is the true one."""
        manifest = self._resolver.manifest
        guide = resample_reference(reference, target, manifest.scale, manifest.grid_offset)
        if not guide.coverage.any():
            raise RefusedError("E_NO_OVERLAP", "the reference does not reach any slice of the target")
        covered = tissue_covered(target, guide)
        if covered < _LEAST_TISSUE:
            raise RefusedError(
                "E_TISSUE_NOT_COVERED",
                f"the reference leaves out tissue, not only air: it reaches {covered:.0%} of the target's, and at least "
                f"{_LEAST_TISSUE:.0%} is needed",
            )
        if self._registration.mode == "none":
            return guide, None, []
        found = register(*_alike(measured, guide, manifest.grid_offset))
        registration, warnings = judge(found, self._registration)
        if registration.corrected:
            moved = follow(target, found.motion)
            guide = resample_reference(reference, moved, manifest.scale, manifest.grid_offset)
        return guide, registration, warnings

    def _run(
        self, target: Volume, guide: Reference, understanding: Understanding, progress: Callable[[int, int], None]
    ) -> "_Computed":
        """Every slice from its first seed, and the spread over the ensemble of seeds if there is more than one."""
        manifest, members = self._resolver.manifest, self._report.ensemble
        names = _names(target)
        n = len(names)
        pixels = np.empty_like(guide.pixels)
        expected = None if self._resolver.trust is None else np.empty_like(guide.pixels)
        spread: list[float] = []

        def images_of(part: slice) -> list[NDArray[np.float32]]:
            """The slices of a batch, for each member of the ensemble. The trust map is that of the first one."""
            images = []
            try:
                for member in range(members):
                    seeds = [_seed(name, manifest.sha256, member) for name in names[part]]
                    given = (
                        target.pixels[part],
                        guide.pixels[part],
                        seeds,
                        understanding.acquisition,
                        understanding.undoing,
                    )
                    if member or expected is None:
                        images.append(self._resolver(*given))
                        continue
                    restored = self._resolver.restore(*given)
                    images.append(restored.images)
                    assert restored.expected_error is not None
                    # In half precision, as it is kept: that halves its place, and nobody reads its fourth digit.
                    expected[part] = np.minimum(restored.expected_error, _LARGEST_HALF).astype(np.float16)
                return images
            except ValueError as error:  # a matrix that the network cannot process
                raise RefusedError("E_MODEL_INPUT", str(error)) from None

        progress(0, n)
        parts = [slice(start, min(start + self._batch, n)) for start in range(0, n, self._batch)]
        for part, images in zip(parts, self._each(images_of, parts), strict=True):
            pixels[part] = images[0]
            spread += seed_spread(images) if members > 1 else []
            progress(part.stop, n)
        if not np.isfinite(pixels).all() or not (expected is None or np.isfinite(expected).all()):
            raise ModelError(f'model {self.name} gave values that are not finite; try [model] precision = "float32"')
        return _Computed(pixels, expected, spread or None)

    @property
    def trust(self) -> str:
        """Which trust map goes with results, in words."""
        if self._resolver.trust is not None:
            return self._resolver.trust.name
        return "none: there is none for these weights" if self._settings.trust else "none: [model] trust = false"

    @property
    def _batch(self) -> int:
        """Slices that go through the network at once. On a CPU one at a time is fastest."""
        return 1 if self.device == "cpu" else self._settings.batch_slices

    def _each(
        self, images_of: Callable[[slice], list[NDArray[np.float32]]], parts: Sequence[slice]
    ) -> Iterator[list[NDArray[np.float32]]]:
        """The images of each part, in order. On a CPU several slices are computed side by side with one thread each: several
        threads within one slice wait for each other at every layer."""
        if self.device != "cpu":
            yield from map(images_of, parts)
            return
        threads = self._settings.threads or len(os.sched_getaffinity(0))
        pool = ThreadPoolExecutor(threads, thread_name_prefix="slices", initializer=_compute_alone)
        try:
            yield from pool.map(images_of, parts)
        finally:
            pool.shutdown(cancel_futures=True)


def _compute_alone() -> None:
    """Let torch compute with this thread only."""
    import torch

    torch.set_num_threads(1)


def _names(target: Volume) -> list[str]:
    """A name for each slice, which does not depend on where or when it is read."""
    if target.frames is None:
        return list(target.sop_uids)
    return [f"{uid} frame {frame}" for uid, frame in zip(target.sop_uids, target.frames, strict=True)]


def _frames(reference: Volume, slices: list[list[int]]) -> list[list[int]] | None:
    """The frame numbers of reference slices, when its instances are multi-frame."""
    numbers = reference.frames
    return None if numbers is None else [[numbers[i] for i in indices] for indices in slices]


def _alike(
    target: Volume, guide: Reference, grid_offset: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[float, float], tuple[float, float]]:
    """Target and reference for `register`: both with the target's bandwidth and with pixels half as large as the target's,
    so that interpolation between them loses little; their spacing; and the position of the reference's first pixel."""
    from diffmsr.baselines import zero_filled
    from diffmsr.kspace import crop_to

    finer = 2
    # Slice by slice: the k-space of a whole stack of fine images would take four times its memory.
    coarse = np.stack([crop_to(pixels, *target.pixels.shape[1:]) for pixels in guide.pixels])
    between_rows, between_columns = target.spacing
    return (
        zero_filled(target.pixels, finer),
        zero_filled(coarse, finer),
        (between_rows / finer, between_columns / finer),
        (grid_offset * between_columns, grid_offset * between_rows),
    )


def _seed(name: str, weights_sha256: str, member: int) -> int:
    """Non-negative 63-bit seed of a slice's noise: the same slice and weights give the same image anywhere. Members of
    an ensemble are counted from 0."""
    words = f"{name} {weights_sha256}" + (f" {member}" if member else "")
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8]) >> 1


def _coverage_warnings(coverage: list[float]) -> list[str]:
    badly = [share for share in coverage if share < _WELL_COVERED]
    if not badly:
        return []
    slices = f"{len(badly)} of {len(coverage)} slices"
    return [f"W_COVERAGE: the reference covers {slices} by less than {_WELL_COVERED:.0%}, at worst by {min(badly):.0%}"]
