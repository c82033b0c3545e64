"""Calibration: what is expected is what comes, whatever the network said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmsr.trust import Curve
from diffmsr.trust.calibration import IDENTITY, ErrorHistogram, curves_of, gain_of


def drawn(seed: int, distort: float, n: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """What a network of a wrong scale predicts, and Laplace errors whose mean it should have predicted."""
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.uniform(np.log(1e-3), np.log(0.2), n)).astype(np.float32)
    return (0.3 * mean**distort).astype(np.float32), np.float32(rng.exponential(mean))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.6, 1.3))
def test_a_calibrated_prediction_is_the_mean_error_and_nine_of_ten_are_within(seed: int, distort: float) -> None:
    predicted, error = drawn(seed, distort)
    histogram = ErrorHistogram()
    histogram.add(predicted, error)
    calibration = curves_of(IDENTITY.gain, [histogram])
    predicted, error = drawn(seed + 1, distort)
    expected = calibration.expected(predicted)
    for part in np.array_split(np.argsort(expected), 5):
        assert expected[part].mean() == pytest.approx(error[part].mean(), rel=0.1)
        assert (error[part] <= calibration.limit(expected[part])).mean() == pytest.approx(0.9, abs=0.03)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e-4, 1), st.floats(1e-4, 1)), min_size=2, max_size=9, unique_by=lambda pair: pair[0])
)
def test_a_curve_keeps_the_order_of_what_it_is_given(knots: list[tuple[float, float]]) -> None:
    at, gives = sorted(at for at, _ in knots), sorted(gives for _, gives in knots)
    values = np.geomspace(1e-6, 100, 60, dtype=np.float32)
    found = Curve(tuple(at), tuple(gives))(values)
    assert (np.diff(found) > -1e-5 * found[1:]).all()
    assert found[-1] / values[-1] == pytest.approx(gives[-1] / at[-1], rel=1e-3), (
        "beyond the last knot its factor stays"
    )


def test_predictions_that_tell_nothing_apart_are_one_knot_less() -> None:
    """Errors fall where predictions rise: a curve that is not monotone would turn the order of pixels round."""
    rng = np.random.default_rng(0)
    histogram = ErrorHistogram()
    for predicted, mean in ((0.01, 0.02), (0.02, 0.01), (0.1, 0.1)):
        histogram.add(np.full(5000, predicted, np.float32), rng.exponential(mean, 5000).astype(np.float32))
    curve = curves_of(IDENTITY.gain, [histogram]).expected
    assert len(curve.at) == 2
    assert curve.gives[0] == pytest.approx(0.015, rel=0.1)


def test_without_enough_pixels_there_is_no_calibration() -> None:
    histogram = ErrorHistogram()
    histogram.add(np.full(10, 0.02, np.float32), np.full(10, 0.01, np.float32))
    for histograms in ([], [ErrorHistogram()], [histogram]):
        with pytest.raises(ValueError, match="too few pixels"):
            curves_of(IDENTITY.gain, histograms)


def test_the_gain_makes_slices_right_where_target_and_reference_disagree() -> None:
    """The network says 0.03 of all slices, and errors are twice as large where the reference does not fit."""
    rng = np.random.default_rng(0)
    apart = rng.uniform(0, 0.8, 400)
    error = np.where(apart < 0.4, 0.02, 0.04) * rng.uniform(0.9, 1.1, 400)
    gain = gain_of(list(apart), [0.03] * 400, list(error))
    assert list(gain.gives) == sorted(gain.gives)
    found = gain(np.array([0.0, 0.1, 0.7, 1.0], dtype=np.float32))
    assert found == pytest.approx([2 / 3, 2 / 3, 4 / 3, 4 / 3], rel=0.05)
    with pytest.raises(ValueError, match="no slice"):
        gain_of([], [], [])
