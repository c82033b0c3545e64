"""A patient who moved between two series: found, judged, and followed."""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from diffmsr.baselines import zero_filled
from diffmsr.kspace import crop_to
from node.config.settings import RegistrationSettings
from node.errors import RefusedError
from node.infer.motion import Motion
from node.infer.registration import Found, follow, judge, register
from node.infer.resample import resample_reference
from node.infer.volume import Volume
from node.result import Registration
from tests.dicom import volume_of

SAMPLE = Path(__file__).parents[4] / "node" / "demo" / "sample"
SPACING = (1.3, 1.1)
SHAPE = (4, 80, 72)
PLACES = np.stack(np.meshgrid([-30.0, 0, 30], [-40.0, 0, 40]), axis=-1).reshape(-1, 2)


def head(motion: Motion, inverted: bool) -> NDArray[np.float32]:
    """Slices of a head with structure, each place p showing what is at motion(p); contrast inverted, as T1 to T2."""
    n, rows, columns = SHAPE
    x = (np.arange(columns) - columns / 2) * SPACING[1]
    y = (np.arange(rows) - rows / 2) * SPACING[0]
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    # What is at p in the moved image was at the place that the motion brings to p.
    back = np.linalg.inv(motion.of(np.eye(2)).T - np.array(motion.shift_mm)[:, None])
    px, py = ((places - motion.shift_mm) @ back.T).T
    slices = []
    for z in range(n):
        tissue = 1 + 0.5 * np.sin(px / 5 + z) * np.cos(py / 7) + 0.4 * np.cos((px + 2 * py) / 11 - z / 2)
        inside = 1 / (1 + np.exp(np.sqrt((px / 33) ** 2 + (py / 44) ** 2) * 40 - 40))
        slices.append(inside * ((2.2 - tissue) ** 2 if inverted else tissue))
    return np.array(slices, dtype=np.float32).reshape(SHAPE)


@pytest.mark.parametrize(
    "motion", [Motion(), Motion((0.7, -0.4), 0.5), Motion((-4.0, 2.5), -3.0)], ids=["none", "small", "large"]
)
def test_a_known_motion_is_found_in_another_contrast(motion: Motion) -> None:
    found = register(head(Motion(), False), head(motion, True), SPACING)
    assert found.comparable
    assert (
        np.linalg.norm(found.motion.of(PLACES) - motion.of(PLACES), axis=1).max() < 0.1
    )  # mm, a thirteenth of a pixel
    assert found.spread_mm is not None
    assert found.spread_mm < 0.3


def test_the_place_of_the_references_first_pixel_counts() -> None:
    found = register(head(Motion(), False), head(Motion(), True), SPACING, reference_shift=(0.5, -0.8))
    assert found.motion.shift_mm == pytest.approx((0.5, -0.8), abs=0.1)


def test_the_estimate_does_not_depend_on_the_machines_threads() -> None:
    images = head(Motion(), False), head(Motion((1.0, 1.0), 1.0), True)
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        found = []
        for number in (1, 3):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)
            found.append(register(*images, SPACING))
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    assert found[0] == found[1]


def test_nothing_of_it_stays_in_a_worker_that_runs_for_months() -> None:
    register(head(Motion(), False), head(Motion(), True), SPACING)
    gc.collect()
    assert not [left for left in gc.get_objects() if type(left) is sitk.ImageRegistrationMethod]


def test_noise_is_not_trusted_and_nothing_not_compared() -> None:
    rng = np.random.default_rng(0)
    target = head(Motion(), False)
    noise = register(target, rng.random(SHAPE, dtype=np.float32), SPACING)
    registration, warnings = judge(noise, RegistrationSettings(mode="refuse"))
    assert not registration.trusted
    assert not registration.corrected
    assert [w.partition(":")[0] for w in warnings] == ["W_REGISTRATION_UNSURE"]
    for images in ((target, np.ones(SHAPE, np.float32)), (np.zeros(SHAPE, np.float32), target)):
        found = register(*images, SPACING)
        assert not found.comparable
        assert found.motion == Motion()


FAR = Found(Motion((3.0, 4.0)), 5.0, 0.1, True)
CASES: list[tuple[str, Found, dict[str, Any], bool, str | None]] = [
    ("within tolerance", FAR, {"mode": "correct", "tolerance_mm": 5.0}, False, None),
    ("warn", FAR, {"mode": "warn"}, False, "W_MISALIGNED"),
    ("correct", FAR, {"mode": "correct"}, True, "W_REFERENCE_MOVED"),
    ("beyond the limit", FAR, {"mode": "correct", "limit_mm": 4.0}, False, "E_MISALIGNED"),
    ("beyond the limit, warn only", FAR, {"mode": "warn", "limit_mm": 4.0}, False, "W_MISALIGNED"),
    ("refuse", FAR, {"mode": "refuse"}, False, "E_MISALIGNED"),
    ("unsure", replace(FAR, spread_mm=2.0), {"mode": "refuse"}, False, "W_REGISTRATION_UNSURE"),
    ("a single slice", replace(FAR, spread_mm=None), {"mode": "correct"}, True, "W_REFERENCE_MOVED"),
]


@pytest.mark.parametrize(("found", "settings", "corrected", "code"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_is_made_of_it(found: Found, settings: dict[str, Any], corrected: bool, code: str | None) -> None:
    if code and code.startswith("E_"):
        with pytest.raises(
            RefusedError, match=r"displaced by 5\.0 mm from the target \(3\.000 mm along a row"
        ) as refused:
            judge(found, RegistrationSettings(**settings))
        assert refused.value.code == code
        return
    registration, warnings = judge(found, RegistrationSettings(**settings))
    trusted = code != "W_REGISTRATION_UNSURE"
    assert registration == Registration((3.0, 4.0), 0.0, trusted, corrected, 5.0, found.spread_mm)
    assert [w.partition(":")[0] for w in warnings] == ([code] if code else [])


@pytest.fixture(scope="module")
def sample() -> tuple[Volume, Volume]:
    """The real T2 and T1 that the node ships."""
    target, reference = (volume_of(sorted((SAMPLE / name).glob("*.dcm"))) for name in ("T2", "T1"))
    return target, reference


def beside(reference: Volume, target: Volume, motion: Motion) -> Volume:
    """The reference as if the patient had made that motion before it was acquired."""
    frame = replace(target, positions=reference.positions, orientation=target.orientation)
    there = follow(target, motion)
    turn = np.column_stack([*there.orientation, there.normal]) @ np.column_stack([*frame.orientation, frame.normal]).T
    shift = there.positions[0] - turn @ target.positions[0]
    orientation: Any = tuple(tuple(float(v) for v in turn @ np.array(axis)) for axis in reference.orientation)
    return replace(reference, positions=reference.positions @ turn.T + shift, orientation=orientation)


def found_in(target: Volume, reference: Volume) -> Found:
    rows, columns = target.pixels.shape[1:]
    guide = resample_reference(reference, target, 4, 0.0).pixels
    alike = (zero_filled(target.pixels, 2), zero_filled(crop_to(guide, rows, columns), 2))
    return register(*alike, (target.spacing[0] / 2, target.spacing[1] / 2))


@pytest.mark.parametrize("motion", [Motion((1.2, -0.8), 0.6), Motion((-3.2, 2.4), -4.0)], ids=["small", "large"])
def test_a_known_motion_is_found_in_real_images(sample: tuple[Volume, Volume], motion: Motion) -> None:
    """The motion is added to the one in the data: the patient did move by a third of a millimetre."""
    target, reference = sample
    already = found_in(target, reference)
    found = found_in(target, beside(reference, target, motion))
    expected = motion.of(already.motion.of(PLACES))
    assert np.linalg.norm(found.motion.of(PLACES) - expected, axis=1).max() < 0.1  # mm, a seventh of a result's pixel
    assert found.spread_mm is not None
    assert found.spread_mm < RegistrationSettings().max_spread_mm


def test_following_lays_the_target_where_the_reference_shows_it(sample: tuple[Volume, Volume]) -> None:
    target, reference = sample
    motion = Motion((2.0, -3.0), 5.0)
    there = follow(target, motion)
    along_row, along_column = np.array(target.orientation)
    rows, columns = target.pixels.shape[1:]
    for row, column in ((0, 0), (rows - 1, 3), (17, columns - 1)):
        place = np.array([(column - columns / 2) * target.spacing[1], (row - rows / 2) * target.spacing[0]])
        moved = motion.of(place[None])[0] - place
        expected = _pixel(target, row, column) + moved[0] * along_row + moved[1] * along_column
        assert np.allclose(_pixel(there, row, column), expected, atol=1e-9)
    once = resample_reference(beside(reference, target, motion), there, 4, 0.0).pixels
    assert np.abs(once - resample_reference(reference, target, 4, 0.0).pixels).max() < 1e-3 * reference.pixels.max()


def _pixel(volume: Volume, row: int, column: int) -> NDArray[np.float64]:
    along_row, along_column = np.array(volume.orientation)
    place = volume.positions[2] + column * volume.spacing[1] * along_row + row * volume.spacing[0] * along_column
    return np.asarray(place)
