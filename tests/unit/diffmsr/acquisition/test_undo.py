"""What is undone before a network sees the image, and how its answer comes back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from torch import Tensor

import node.demo
from diffmsr import kspace
from diffmsr.acquisition import (
    FEATURES,
    FULL,
    NAMED,
    Acquisition,
    Filter,
    Undoing,
    cropped_matrix,
    features,
    left_over,
    onto_cropped_grid,
    onto_stored_grid,
    simulate,
    undo,
)
from diffmsr.acquisition.draw import Mix, draw_acquisition
from diffmsr.data.degradation import with_phase
from tests.unit.diffmsr.acquisition.heads import complex_head

NOTHING = Undoing(crop=False, filter=False, partial_fourier=False)


def stored(acquisition: Acquisition) -> Tensor:
    return simulate(complex_head(0), acquisition, np.random.default_rng(0), (64, 64))


def real_slice() -> Tensor:
    """A T2 slice of the demonstration, between 0 and 1, with a smooth phase."""
    pixels = dcmread(Path(node.demo.__file__).parent / "sample" / "T2" / "05.dcm").pixel_array.astype(np.float32)
    return with_phase(torch.from_numpy(pixels / pixels.max()), np.random.default_rng(0))


@pytest.mark.parametrize(("name", "radius"), [("hamming", 1.5), ("pf68", 1.5), ("fermi", 0.95)])
def test_undoing_brings_the_image_closer_to_a_full_acquisition(name: str, radius: float) -> None:
    """Of a real slice, within a radius of frequencies: a radial Fermi filter leaves nothing of the corners that could be
    brought back, and the synthetic heads have more there than anatomy has."""
    full, marred = (simulate(real_slice(), a, np.random.default_rng(0), (64, 64)) for a in (FULL, NAMED[name]))
    line = (torch.arange(64) - 32) / 32
    inside = (line[:, None] ** 2 + line[None, :] ** 2).sqrt() < radius

    def distance(image: Tensor) -> Tensor:
        return (kspace.fft2c(image - full) * inside).norm()

    assert distance(undo(marred, NAMED[name])) < 0.85 * distance(marred)


def test_cropping_leaves_the_image_of_the_acquired_matrix() -> None:
    acquisition = replace(FULL, extent=(0.75, 1.0))
    cropped = undo(stored(acquisition), acquisition)
    assert cropped.shape == (48, 64)
    direct = kspace.crop(complex_head(0), 48, 64).abs()
    assert (cropped - direct).norm() < 0.02 * direct.norm()


@pytest.mark.parametrize(
    "acquisition", [FULL, Acquisition(), replace(FULL, partial_fourier=(0.75, 1.0), homodyne=True)]
)
def test_what_needs_no_undoing_is_left_alone(acquisition: Acquisition) -> None:
    image = stored(FULL)
    torch.testing.assert_close(undo(image, acquisition), image)


def test_every_step_is_a_switch() -> None:
    acquisition = replace(NAMED["hamming"], extent=(0.75, 1.0), partial_fourier=(1.0, 0.75))
    image = stored(acquisition)
    torch.testing.assert_close(undo(image, acquisition, NOTHING), image)
    assert undo(image, acquisition, replace(NOTHING, crop=True)).shape == (48, 64)
    by_filter, by_fraction = (
        undo(image, acquisition, replace(NOTHING, **{step: True})) for step in ("filter", "partial_fourier")
    )
    assert not torch.allclose(by_filter, image)
    assert not torch.allclose(by_fraction, image)
    assert not torch.allclose(by_filter, by_fraction)


def test_three_percent_are_not_worth_a_crop() -> None:
    assert cropped_matrix(Acquisition(extent=(0.98, 0.9)), 100, 100) == (100, 90)


@settings(max_examples=25, deadline=None)
@given(st.integers(16, 40), st.integers(16, 40), st.integers(0, 12), st.integers(0, 12), st.integers(0, 99))
def test_the_way_to_the_stored_grid_is_exactly_aligned(h: int, w: int, more_h: int, more_w: int, seed: int) -> None:
    """Every sample that both grids share keeps its value: the fine pixel 0, and a band-limited image everywhere."""
    fine = kspace.zero_fill(torch.rand(h, w, generator=torch.Generator().manual_seed(seed)), 4 * h, 4 * w).real + 1
    enlarged = onto_stored_grid(fine, 4 * (h + more_h), 4 * (w + more_w))
    assert enlarged.shape == (4 * (h + more_h), 4 * (w + more_w))
    torch.testing.assert_close(enlarged[0, 0], fine[0, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(onto_cropped_grid(enlarged, 4 * h, 4 * w), fine, rtol=1e-4, atol=1e-4)


def test_the_network_is_told_what_is_left() -> None:
    acquisition = replace(FULL, extent=(0.8, 0.99), ellipse=True)
    assert left_over(acquisition).extent == (1.0, 0.99)
    assert left_over(acquisition, NOTHING) == acquisition


def test_nothing_and_unknown_are_zeros() -> None:
    assert features(Acquisition()).shape == (FEATURES,)
    torch.testing.assert_close(features(Acquisition()), torch.zeros(FEATURES))
    torch.testing.assert_close(features(FULL), torch.zeros(FEATURES))


def test_every_fact_changes_what_is_told() -> None:
    changes = [
        {"extent": (0.8, 1.0)}, {"extent": (1.0, 0.8)}, {"partial_fourier": (0.75, 1.0)}, {"ellipse": True},
        {"partial_fourier": (0.75, 1.0), "missing": ("last", "first")}, {"partial_fourier": (1.0, 0.75)},
        {"partial_fourier": (0.75, 1.0), "homodyne": True},
        {"filter": Filter("hamming", 0.92)}, {"filter": Filter("hamming", 0.5)}, {"filter": Filter("hamming", 0.92, "rows")},
    ]  # fmt: skip
    told = {tuple(features(replace(FULL, **change)).tolist()) for change in changes}  # type: ignore[arg-type]
    assert len(told) == len(changes)


def test_noise_is_not_told() -> None:
    torch.testing.assert_close(features(replace(FULL, noise=0.03, coils=4)), torch.zeros(FEATURES))


def test_draws_depend_on_their_generator_alone_and_cover_the_mix() -> None:
    draws = [draw_acquisition(Mix(), np.random.default_rng(seed)) for seed in range(400)]
    assert draws == [draw_acquisition(Mix(), np.random.default_rng(seed)) for seed in range(400)]
    clean = [true for true, _ in draws if true == FULL]
    assert 0.3 < len(clean) / len(draws) < 0.5
    marred = [true for true, _ in draws if true != FULL]
    assert {true.filter.kind for true in marred if true.filter} == {"none", "hamming", "tukey", "fermi"}
    assert any(true.homodyne for true in marred)
    assert any(true.ellipse for true in marred)
    assert any(known.filter is None for _, known in draws)


def test_what_is_known_of_a_draw_is_never_wrong_about_kinds() -> None:
    for seed in range(200):
        true, known = draw_acquisition(Mix(clean=0), np.random.default_rng(seed))
        assert known.filter is None or (true.filter and known.filter.kind == true.filter.kind)
        assert known.ellipse in (None, true.ellipse)
        assert known.partial_fourier in ((None, None), true.partial_fourier)
