"""The engine, with a resolver of known arithmetic in the place of the network."""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diffmsr.acquisition import Acquisition, Undoing
from node.archive.facade import Archive
from node.config.settings import AcquisitionSettings, ModelSettings, RegistrationSettings, ReportSettings
from node.errors import LeaseLostError, ModelError, RefusedError
from node.infer.engine import Engine
from node.infer.volume import Volume
from node.payloads import PairRequest, StackRequest
from node.result import Result
from tests.dicom import volume_of

SCALE = 4
AXES = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


class Resolver:
    """Repeats target pixels, adds the reference and noise of the seed; keeps what it was asked."""

    manifest = SimpleNamespace(name="known", version="1", sha256="ab" * 32, scale=SCALE, grid_offset=0.0)
    trust: Any = None
    consistency = "none"

    def __init__(self) -> None:
        self.seeds: list[list[int]] = []

    def __call__(
        self,
        target: NDArray[np.float32],
        reference: NDArray[np.float32],
        seeds: Sequence[int],
        acquisition: Acquisition = Acquisition(),
        undoing: Undoing = Undoing(),
    ) -> NDArray[np.float32]:
        self.seeds.append(list(seeds))
        noise = np.array([np.random.default_rng(seed).random() for seed in seeds], dtype=np.float32)
        return np.kron(target, np.ones((1, SCALE, SCALE), np.float32)) + 0.5 * reference + noise[:, None, None]


def volume(name: str, shape: tuple[int, int, int], spacing: tuple[float, float], distance: float = 4.0) -> Volume:
    return Volume(
        pixels=np.random.default_rng(len(name)).random(shape, dtype=np.float32) * 100,
        positions=np.array([[0.0, 0.0, distance * i] for i in range(shape[0])]),
        orientation=AXES,
        spacing=spacing,
        slice_thickness=distance,
        sop_uids=tuple(f"1.2.{name}.{i + 1}" for i in range(shape[0])),
        frame_of_reference_uid="1.9",
    )


@pytest.fixture
def target() -> Volume:
    return volume("3", (5, 20, 16), (2.0, 2.4))


@pytest.fixture
def reference() -> Volume:
    return volume("44", (5, 80, 64), (0.5, 0.6))


def request_for(target: Volume, reference: Volume, **more: Any) -> PairRequest:
    stacks = {
        name: StackRequest(series_uid=f"1.2.{name}", contrast=contrast, sop_uids=stack.sop_uids)
        for name, contrast, stack in (("target", "T2", target), ("reference", "T1", reference))
    }
    return PairRequest(study_uid="1.2", **stacks, **more)


AS_STORED = AcquisitionSettings(header=False, spectrum=False)
"""The images of the stand-in are noise, of whose spectrum anything could be believed."""


def engine(
    resolver: Any = None,
    mode: Any = "none",
    report: ReportSettings | None = None,
    acquisition: AcquisitionSettings = AS_STORED,
    device: str = "cpu",
    **settings: Any,
) -> Engine:
    registration, report = RegistrationSettings(mode=mode), report or ReportSettings()
    return Engine(resolver or Resolver(), device, ModelSettings(**settings), registration, acquisition, report)


def load(settings: ModelSettings) -> Engine:
    return Engine.load(settings, RegistrationSettings(), AS_STORED, ReportSettings())


def super_resolve(
    engine: Engine, target: Volume, reference: Volume, order: PairRequest, progress: Callable[[int, int], None]
) -> Result:
    return engine.super_resolve(target, reference, order, progress).result


def silent(_done: int, _total: int) -> None: ...


def test_result_lies_on_the_fine_grid_with_its_sources_named(target: Volume, reference: Volume) -> None:
    result = super_resolve(engine(), target, reference, request_for(target, reference, warnings=("W_X: mind",)), silent)
    assert result.pixels.shape == (5, 80, 64)
    assert result.pixels.dtype == np.float32
    assert result.spacing == (0.5, 0.6)
    assert np.array_equal(result.positions, target.positions)
    assert result.source_uids == list(target.sop_uids)
    assert result.reference_uids == [[uid] for uid in reference.sop_uids]
    assert (result.model_name, result.weights_sha256, result.scale) == ("known", "ab" * 32, SCALE)
    assert result.warnings == ["W_X: mind"]
    assert result.parameters["precision"] == "float32"


class Trusting(Resolver):
    """One whose trust map expects an error of a tenth of each pixel, and of half of it in slices with a bright reference."""

    trust = SimpleNamespace(name="known trust 1")

    def restore(self, target: Any, reference: Any, seeds: Any, acquisition: Any, undoing: Any) -> Any:
        images = self(target, reference, seeds, acquisition, undoing)
        share = np.where(reference.max(axis=(1, 2), keepdims=True) > 500, 0.5, 0.1)
        return SimpleNamespace(images=images, expected_error=(share * images).astype(np.float32))


@pytest.mark.parametrize("members", [1, 3])
def test_the_trust_map_goes_with_the_result_and_into_its_grade(target: Volume, reference: Volume, members: int) -> None:
    report = ReportSettings(max_inconsistency=9, max_intensity_drift=9, max_seed_spread=9, ensemble=members)
    bright = replace(reference, pixels=reference.pixels * np.array([1, 1, 9, 1, 1], np.float32)[:, None, None])
    order = request_for(target, reference)
    sound, doubtful = (
        super_resolve(engine(Trusting(), report=report), target, guide, order, silent) for guide in (reference, bright)
    )
    assert sound.expected_error is not None and np.allclose(sound.expected_error, 0.1 * sound.pixels, rtol=1e-3)
    assert sound.quality is not None and sound.quality.usable
    assert sound.quality.expected_error == pytest.approx([0.1] * 5, rel=1e-3)
    assert sound.quality.unsure == [0] * 5
    assert sound.parameters["trust map"] == "known trust 1"
    assert doubtful.quality is not None and not doubtful.quality.usable
    (reason,) = doubtful.quality.reasons
    assert "1 of 5 slices have an expected error" in reason and "at worst slice 3" in reason


def test_without_a_trust_map_the_parameters_say_why(target: Volume, reference: Volume) -> None:
    order = request_for(target, reference)
    for settings, reason in (({}, "there is none for these weights"), ({"trust": False}, "[model] trust = false")):
        result = super_resolve(engine(**settings), target, reference, order, silent)  # type: ignore[arg-type]
        assert result.expected_error is None
        assert result.quality is not None and result.quality.expected_error is None
        assert result.parameters["trust map"] == f"none: {reason}"


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_batches_cover_every_slice_once_with_its_own_seed(target: Volume, reference: Volume, batch: int) -> None:
    resolver, seen = Resolver(), []
    result = super_resolve(
        engine(resolver, device="cuda:0", batch_slices=batch),
        target,
        reference,
        request_for(target, reference),
        lambda done, total: seen.append((done, total)),
    )
    assert seen == [(0, 5), *((min(i + batch, 5), 5) for i in range(0, 5, batch))]
    seeds = [seed for part in resolver.seeds for seed in part]
    assert len(set(seeds)) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
    one = super_resolve(engine(batch_slices=1), target, reference, request_for(target, reference), silent)
    assert np.array_equal(result.pixels, one.pixels)


def test_on_a_cpu_slices_are_computed_side_by_side(target: Volume, reference: Volume) -> None:
    together, calls = threading.Barrier(2), itertools.count()

    class Meeting(Resolver):
        def __call__(self, target: Any, reference: Any, seeds: Any, *known: Any) -> NDArray[np.float32]:
            if next(calls) < 4:  # the fifth slice has nobody to meet
                together.wait()
            return super().__call__(target, reference, seeds, *known)

    seen: list[tuple[int, int]] = []
    result = super_resolve(
        engine(Meeting(), threads=2), target, reference, request_for(target, reference),
        lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(i, 5) for i in range(6)]
    alone = super_resolve(engine(threads=1), target, reference, request_for(target, reference), silent)
    assert result.pixels.tobytes() == alone.pixels.tobytes()
    assert result.parameters == alone.parameters


def test_seed_belongs_to_the_slice_and_the_weights(target: Volume, reference: Volume) -> None:
    def seeds(target: Volume, sha256: str) -> list[int]:
        resolver = Resolver()
        resolver.manifest = SimpleNamespace(**{**vars(Resolver.manifest), "sha256": sha256})
        super_resolve(engine(resolver, batch_slices=8), target, reference, request_for(target, reference), silent)
        return resolver.seeds[0]

    again = replace(target, pixels=target.pixels * 2)
    assert seeds(target, "ab") == seeds(again, "ab")
    assert not set(seeds(target, "ab")) & set(seeds(target, "cd"))


def test_the_manifests_grid_offset_moves_the_first_pixel(target: Volume, reference: Volume) -> None:
    resolver = Resolver()
    resolver.manifest = SimpleNamespace(**{**vars(Resolver.manifest), "grid_offset": -0.375})
    result = super_resolve(engine(resolver), target, reference, request_for(target, reference), silent)
    assert np.allclose(result.positions - target.positions, [-0.375 * 2.4, -0.375 * 2.0, 0])


def test_a_reference_may_leave_out_air_with_a_warning_but_no_tissue(target: Volume, reference: Volume) -> None:
    def moved(by: float) -> Volume:
        return replace(reference, positions=reference.positions + np.array([by, 0, 0]))

    with pytest.raises(RefusedError, match="E_TISSUE_NOT_COVERED"):
        super_resolve(engine(), target, moved(19.2), request_for(target, reference), silent)
    pixels = target.pixels.copy()
    pixels[..., : pixels.shape[2] // 2] = np.random.default_rng(0).rayleigh(0.03 * np.percentile(pixels, 99), 1)
    beside_air = replace(target, pixels=pixels)
    result = super_resolve(engine(), beside_air, moved(19.2), request_for(target, reference), silent)
    assert result.warnings == ["W_COVERAGE: the reference covers 5 of 5 slices by less than 95%, at worst by 50%"]
    with pytest.raises(RefusedError, match="E_NO_OVERLAP"):
        super_resolve(engine(), target, moved(500), request_for(target, reference), silent)


def test_a_result_says_how_far_it_departs_from_what_was_measured(target: Volume, reference: Volume) -> None:
    """The stand-in adds half the reference to the target: for a dark one it changes nothing but its noise."""
    dark = replace(reference, pixels=np.zeros_like(reference.pixels))
    faithful = super_resolve(engine(), target, dark, request_for(target, reference), silent).quality
    assert faithful is not None
    assert faithful.registration is None
    assert faithful.seed_spread is None
    assert max(map(abs, faithful.intensity_drift)) < 0.03
    unfaithful = super_resolve(engine(), target, reference, request_for(target, reference), silent).quality
    assert unfaithful is not None
    assert min(unfaithful.intensity_drift) > 0.3
    assert min(unfaithful.consistency) > max(faithful.consistency)
    assert not unfaithful.usable
    assert any("mean intensity" in reason for reason in unfaithful.reasons)


def test_an_ensemble_gives_a_spread_and_changes_nothing_else(target: Volume, reference: Volume) -> None:
    resolver = Resolver()
    one = super_resolve(engine(), target, reference, request_for(target, reference), silent)
    three = super_resolve(
        engine(resolver, report=ReportSettings(ensemble=3)), target, reference, request_for(target, reference), silent
    )
    assert np.array_equal(one.pixels, three.pixels)
    assert one.parameters == three.parameters
    assert three.quality is not None and three.quality.seed_spread is not None
    assert len(three.quality.seed_spread) == 5
    assert min(three.quality.seed_spread) > 0
    assert len({seed for part in resolver.seeds for seed in part}) == 15


SAMPLE = Path(__file__).parents[4] / "node" / "demo" / "sample"


class Guide(Resolver):
    """Gives the reference back as it was put on the target's grid."""

    def __call__(self, target: Any, reference: Any, seeds: Any, *_: Any) -> Any:
        return reference


@pytest.mark.parametrize("mode", ["warn", "correct", "refuse"])
def test_a_patient_who_moved_between_the_series(mode: str) -> None:
    target, moved = (volume_of(sorted((SAMPLE / name).glob("*.dcm"))) for name in ("T2", "T1"))
    shift = 2.0 * np.array(target.orientation[0])
    reference = replace(moved, positions=moved.positions + shift)
    request = request_for(target, reference)
    if mode == "refuse":
        with pytest.raises(RefusedError, match="E_MISALIGNED"):
            super_resolve(engine(Guide(), mode=mode), target, reference, request, silent)
        return
    result = super_resolve(engine(Guide(), mode=mode), target, reference, request, silent)
    assert result.quality is not None and result.quality.registration is not None
    registration = result.quality.registration
    assert registration.shift_mm == pytest.approx((2.07, -0.34), abs=0.15)  # 2 mm, and what is in the data already
    assert registration.corrected == (mode == "correct")
    assert ("reference moved by" in result.parameters) == (mode == "correct")
    (warning,) = (w for w in result.warnings if w.startswith(("W_MISALIGNED", "W_REFERENCE_MOVED")))
    assert f"{registration.displacement_mm:.1f} mm from the target" in warning
    # Once, and the right way: what guides now lies where a reference that never moved would be put.
    still = super_resolve(engine(Guide(), mode="correct"), target, moved, request, silent)
    apart = np.abs(result.pixels - still.pixels).mean() / still.pixels.mean()
    assert apart < 0.03 if mode == "correct" else apart > 0.1


def test_values_that_are_not_finite_never_leave(target: Volume, reference: Volume) -> None:
    class Broken(Resolver):
        def __call__(self, target: Any, reference: Any, seeds: Any, *_: Any) -> Any:
            return super().__call__(target, reference, seeds) * np.nan

    with pytest.raises(ModelError, match="not finite"):
        super_resolve(engine(Broken()), target, reference, request_for(target, reference), silent)


def test_progress_may_end_the_work(target: Volume, reference: Volume) -> None:
    def lost(_done: int, _total: int) -> None:
        raise LeaseLostError

    with pytest.raises(LeaseLostError):
        super_resolve(engine(), target, reference, request_for(target, reference), lost)


def test_a_result_survives_the_archive(target: Volume, reference: Volume, tmp_path: Any) -> None:
    archive = Archive.in_folder(tmp_path)
    result = super_resolve(engine(), target, reference, request_for(target, reference), silent)
    archive.put_result("key", result)
    found = archive.open_result("key")
    assert np.array_equal(found.pixels, result.pixels)
    assert replace(found, pixels=result.pixels, positions=result.positions) == replace(result)


def test_a_matrix_the_network_cannot_take_is_refused(target: Volume, reference: Volume) -> None:
    class Particular(Resolver):
        def __call__(self, target: Any, reference: Any, seeds: Any, *_: Any) -> Any:
            raise ValueError("an image of 16 x 12 pixels is too small")

    with pytest.raises(RefusedError, match="E_MODEL_INPUT: an image of 16 x 12 pixels"):
        super_resolve(engine(Particular()), target, reference, request_for(target, reference), silent)
