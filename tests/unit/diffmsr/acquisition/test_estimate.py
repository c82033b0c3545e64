"""What a stack of stored images shows of its acquisition."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffmsr.acquisition import FULL, NAMED, Acquisition, Filter, estimate, simulate
from diffmsr.arrays import Magnitudes
from tests.unit.diffmsr.acquisition.heads import complex_head

Stack = Callable[[Acquisition], Magnitudes]


@pytest.fixture(scope="module")
def stack() -> Stack:
    """Six slices as a scanner with an acquisition stores them."""
    heads = [complex_head(seed) for seed in range(6)]

    def stored(acquisition: Acquisition) -> Magnitudes:
        images = [simulate(head, acquisition, np.random.default_rng(i), (64, 64)) for i, head in enumerate(heads)]
        return torch.stack(images).numpy()

    return stored


def test_nothing_is_found_where_there_is_nothing(stack: Stack) -> None:
    found = estimate(stack(FULL))
    assert found.acquisition.extent == (1.0, 1.0)
    assert found.acquisition.partial_fourier == (1.0, 1.0)
    assert found.acquisition.filter in (None, Filter())
    assert not found.acquisition.ellipse
    assert not found.warnings


@pytest.mark.parametrize("extent", [0.9, 0.8, 0.7])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_edge_of_the_acquired_band(stack: Stack, extent: float, axis: int) -> None:
    narrow = replace(FULL, extent=(extent, 1.0) if axis == 0 else (1.0, extent), noise=0.01)
    found = estimate(stack(narrow))
    assert found.acquisition.extent[axis] == pytest.approx(extent, abs=0.04)
    assert found.acquisition.extent[1 - axis] == 1
    assert found.source[("extent rows", "extent columns")[axis]] == "spectrum"


@pytest.mark.parametrize("fraction", [5 / 8, 6 / 8])
def test_zero_filled_partial_fourier_is_no_edge(stack: Stack, fraction: float) -> None:
    found = estimate(stack(replace(FULL, partial_fourier=(fraction, 1.0)))).acquisition
    assert found.extent == (1.0, 1.0)
    assert found.partial_fourier == (fraction, 1.0)
    assert found.homodyne is False


def test_a_header_with_partial_fourier_that_shows_no_loss_means_homodyne(stack: Stack) -> None:
    header = Acquisition(partial_fourier=(0.75, 1.0))
    filled_in = estimate(stack(replace(FULL, partial_fourier=(0.75, 1.0), homodyne=True)), header).acquisition
    zero_filled = estimate(stack(replace(FULL, partial_fourier=(0.75, 1.0))), header).acquisition
    assert (filled_in.partial_fourier[0], filled_in.homodyne) == (0.75, True)
    assert (zero_filled.partial_fourier[0], zero_filled.homodyne) == (0.75, False)


def test_a_hamming_filter_is_recognised_with_its_strength(stack: Stack) -> None:
    applied = estimate(stack(NAMED["hamming"])).acquisition.filter
    assert applied is not None
    assert applied.kind == "hamming"
    assert applied.strength == pytest.approx(0.92, abs=0.1)


def test_an_elliptical_shutter_is_recognised(stack: Stack) -> None:
    assert estimate(stack(NAMED["ellipse"])).acquisition.ellipse is True


def test_a_background_of_one_value_is_no_noise(stack: Stack) -> None:
    stored = stack(FULL)
    stored[:, 20:] = np.maximum(stored[:, 20:], 0.2)
    stored[:, :20] = 0.1
    assert estimate(stored).acquisition.noise is None


def test_noise_is_found_in_what_is_not_like_a_head() -> None:
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.random((4, 2, 2)) > 0.4, np.ones((40, 40)))
    found = estimate(
        np.hypot(blocks + 0.03 * rng.normal(size=blocks.shape), 0.03 * rng.normal(size=blocks.shape)).astype(np.float32)
    )
    assert found.acquisition.extent == (None, None)
    assert found.acquisition.noise == pytest.approx(0.03, rel=0.15)
    assert found.source["noise"] == "spectrum"


def test_noise_and_coils_from_the_air(stack: Stack) -> None:
    found = estimate(stack(replace(FULL, noise=0.03, coils=4))).acquisition
    assert found.noise == pytest.approx(0.03, rel=0.3)
    assert found.coils == 4


def test_noise_is_as_it_was_before_the_filter(stack: Stack) -> None:
    found = estimate(stack(replace(NAMED["hamming"], noise=0.05))).acquisition
    assert found.noise == pytest.approx(0.05, rel=0.4)


def test_a_header_that_agrees_gives_the_exact_figure(stack: Stack) -> None:
    found = estimate(stack(NAMED["phase80"]), Acquisition(extent=(0.8, 1.0)))
    assert found.acquisition.extent == (0.8, 1.0)
    assert found.source["extent rows"] == "both"
    assert not found.warnings


@pytest.mark.parametrize(("said", "true"), [(1.0, 0.7), (0.6, 0.8)])
def test_a_header_that_contradicts_a_clear_spectrum_loses_with_a_warning(
    stack: Stack, said: float, true: float
) -> None:
    found = estimate(stack(replace(FULL, extent=(true, 1.0), noise=0.01)), Acquisition(extent=(said, 1.0)))
    assert found.acquisition.extent[0] == pytest.approx(true, abs=0.04)
    assert [line for line in found.warnings if line.startswith("the header says") and "rows" in line]


def test_a_phantom_tells_nothing() -> None:
    """It has sharp edges and no texture, so its spectrum easily shows an edge of k-space that does not exist."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    disc = np.stack([(np.hypot(y, x) < 0.8) & (np.abs(y - 0.1 * i) > 0.05) for i in range(4)]).astype(np.float32)
    header = Acquisition(extent=(1.0, 0.9))
    found = estimate(disc, header)
    assert found.acquisition == header
    assert (found.source["extent columns"], found.source["filter"]) == ("header", "unknown")
    assert found.source["noise"] == "unknown"


@pytest.mark.parametrize("extent", [0.5, 0.6])
def test_below_seven_tenths_nothing_but_an_edge_is_told(stack: Stack, extent: float) -> None:
    """Neither the filter along one axis nor the partial Fourier that explain the same spectrum."""
    found = estimate(stack(replace(FULL, extent=(extent, 1.0), noise=0.01))).acquisition
    assert found.extent[0] is None or found.extent[0] == pytest.approx(extent, abs=0.1)
    assert found.partial_fourier[0] is None
    assert found.filter is None


def test_the_name_of_a_filter_in_a_header_is_a_first_opinion(stack: Stack) -> None:
    hamming = Acquisition(filter=Filter("hamming", 0.92))
    agreed = estimate(stack(NAMED["hamming"]), hamming)
    assert agreed.acquisition.filter is not None and agreed.acquisition.filter.kind == "hamming"
    assert agreed.source["filter"] == "both"
    denied = estimate(stack(NAMED["hamming"]), Acquisition(filter=Filter()))
    assert denied.acquisition.filter is not None and denied.acquisition.filter.kind == "hamming"
    assert denied.source["filter"] == "spectrum"
    assert "the header says no filter over k-space, the images show a hamming filter" in denied.warnings[0]


def test_an_estimate_depends_on_no_unit(stack: Stack) -> None:
    images = stack(NAMED["typical"])
    one, other = estimate(images).acquisition, estimate(1000 * images).acquisition
    assert replace(one, noise=None) == replace(other, noise=None)
    assert one.noise == pytest.approx(other.noise, rel=1e-3)


def test_an_empty_stack_tells_nothing() -> None:
    header = Acquisition(extent=(0.8, 1.0))
    assert estimate(np.zeros((3, 64, 64), np.float32), header).acquisition == header


def test_a_few_pixels_tell_nothing(stack: Stack) -> None:
    """So small a matrix has too few frequencies to tell an edge from anatomy, and a wrong edge would refuse it."""
    header = Acquisition(extent=(1.0, 1.0))
    assert estimate(stack(replace(FULL, extent=(0.6, 1.0)))[:, ::2, ::2], header).acquisition == header


def test_a_masked_background_tells_nothing_of_noise(stack: Stack) -> None:
    images = stack(FULL)
    images[:, :20], images[:, -20:], images[:, :, :20], images[:, :, -20:] = 0, 0, 0, 0
    assert (estimate(images).acquisition.noise or 0) < 1


@pytest.mark.parametrize(
    "images", [np.ones((64, 64)), np.ones((2, 8, 64)), np.full((2, 64, 64), np.nan)], ids=["flat", "small", "nan"]
)
def test_what_is_no_stack_is_refused(images: Magnitudes) -> None:
    with pytest.raises(ValueError, match="a stack must be"):
        estimate(images.astype(np.float32))
