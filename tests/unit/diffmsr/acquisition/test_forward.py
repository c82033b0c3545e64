"""What a simulated scanner stores."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffmsr import kspace
from diffmsr.acquisition import FULL, NAMED, Acquisition, AcquisitionError, Filter, simulate
from tests.unit.diffmsr.acquisition.heads import complex_head

MATRIX = (64, 64)


def stored(acquisition: Acquisition, seed: int = 0) -> Tensor:
    return simulate(complex_head(seed), acquisition, np.random.default_rng(seed), MATRIX)


def spectrum(image: Tensor) -> Tensor:
    return kspace.fft2c(image).abs()


def test_full_acquisition_is_the_magnitude_of_the_cropped_k_space() -> None:
    torch.testing.assert_close(stored(FULL), kspace.crop(complex_head(0), *MATRIX).abs())


def test_unknown_facts_count_as_a_full_acquisition() -> None:
    torch.testing.assert_close(stored(Acquisition()), stored(FULL))


def test_a_smaller_extent_leaves_little_outside() -> None:
    before, after = spectrum(stored(FULL)), spectrum(stored(replace(FULL, extent=(0.75, 1.0))))
    outside = slice(0, 7)  # of 64 rows, the outer eighth on one side
    assert after[outside].square().sum() < 0.3 * before[outside].square().sum()


def test_zero_filled_partial_fourier_costs_more_than_homodyne() -> None:
    full = stored(FULL)
    zero_filled = stored(replace(FULL, partial_fourier=(0.75, 1.0)))
    homodyne = stored(replace(FULL, partial_fourier=(0.75, 1.0), homodyne=True))
    assert (homodyne - full).norm() < 0.5 * (zero_filled - full).norm()


def test_the_missing_end_does_not_show_in_a_real_image() -> None:
    image = complex_head(0).abs().to(torch.complex64)
    rng = np.random.default_rng(0)
    sides = [replace(FULL, partial_fourier=(0.75, 1.0), missing=(end, "first")) for end in ("first", "last")]
    first, last = (simulate(image, side, rng, (63, 63)) for side in sides)
    torch.testing.assert_close(first, last, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["hamming", "tukey", "fermi"])
@pytest.mark.parametrize("along", ["rows", "columns", "both", "radial"])
def test_a_filter_smooths_along_its_axes(kind: str, along: str) -> None:
    usual = {"hamming": 0.92, "tukey": 0.3, "fermi": 0.06}
    before = spectrum(stored(FULL))
    after = spectrum(stored(replace(FULL, filter=Filter(kind, usual[kind], along))))  # type: ignore[arg-type]
    rows = after[1].square().sum() / before[1].square().sum()
    columns = after[:, 1].square().sum() / before[:, 1].square().sum()
    assert (rows < 0.5) == (along != "columns")
    assert (columns < 0.5) == (along != "rows")


def test_an_ellipse_removes_the_corners_and_nothing_else() -> None:
    image = complex_head(0).abs().to(torch.complex64)
    rng = np.random.default_rng(0)
    k = spectrum(simulate(image, replace(FULL, ellipse=True), rng, MATRIX).to(torch.complex64))
    whole = spectrum(simulate(image, FULL, rng, MATRIX).to(torch.complex64))
    assert k[:6, :6].sum() < 0.4 * whole[:6, :6].sum()
    assert k[28:37, :6].sum() > 0.9 * whole[28:37, :6].sum()


def test_noise_has_its_deviation_and_coils_raise_the_floor() -> None:
    one, four = (stored(replace(FULL, noise=0.02, coils=coils)) for coils in (1, 4))
    air = (slice(0, 8), slice(0, 8))
    deviation = 0.02 * float(complex_head(0).abs().max())
    assert float(one[air].square().mean().sqrt()) == pytest.approx(deviation * 2**0.5, rel=0.25)
    assert float(four[air].mean()) > 1.7 * float(one[air].mean())


def test_cubic_enlargement_keeps_the_image() -> None:
    cubic = stored(replace(FULL, extent=(0.8, 0.8), interpolation="cubic"))
    zero_filled = stored(replace(FULL, extent=(0.8, 0.8)))
    assert (cubic - zero_filled).norm() < 0.1 * zero_filled.norm()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_json_gives_back_the_same(data: st.DataObject) -> None:
    share = st.none() | st.floats(0.1, 1)
    acquisition = Acquisition(
        extent=(data.draw(share), data.draw(share)),
        partial_fourier=(data.draw(st.none() | st.floats(0.55, 1)), None),
        homodyne=data.draw(st.none() | st.booleans()),
        filter=data.draw(st.none() | st.builds(Filter, st.sampled_from(["none", "fermi", "tukey"]), st.floats(0, 1))),
        ellipse=data.draw(st.none() | st.booleans()),
        noise=data.draw(st.none() | st.floats(0, 1)),
        coils=data.draw(st.none() | st.integers(1, 64)),
    )
    assert Acquisition.from_json(acquisition.to_json()) == acquisition


@pytest.mark.parametrize(
    "text", ["", "{}x", '{"extent": [2, 1]}', '{"speed": 3}', '{"filter": {"kind": "magic"}}', "[]"]
)
def test_json_that_is_no_acquisition_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(AcquisitionError) as caught:
        Acquisition.from_json(text)
    assert "\n" not in str(caught.value)


def test_what_is_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="extent"):
        Acquisition(extent=(1.2, 1.0))
    with pytest.raises(ValueError, match="partial_fourier"):
        Acquisition(partial_fourier=(0.3, None))


def test_every_named_acquisition_can_be_stored() -> None:
    for acquisition in NAMED.values():
        assert torch.isfinite(stored(acquisition)).all()
