"""What holds of every study, wherever its slices lie and in whatever order they come."""

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.valuerep import format_number_as_ds
from scipy.spatial.transform import Rotation

from node.config.match import MatchSettings
from node.infer.volume import Volume
from node.match.assess import assess_study
from tests.dicom import enhanced, study, volume_of, write
from tests.unit.node.match.builder import MODEL

TOLERANCE_MM = 1e-6  # a decimal string holds at least nine digits of a coordinate

directions = st.builds(
    lambda q: Rotation.from_quat(q).as_matrix(),
    st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(v * v for v in q) > 0.01),
)
# Not far from square: the reference is asked to be as fine as the result along both axes.
spacings = st.tuples(st.floats(0.9, 5), st.floats(0.85, 1.15)).map(lambda s: (s[0], s[0] * s[1]))
matrices = st.tuples(st.integers(16, 40), st.integers(16, 40))


@st.composite
def planned(draw: st.DrawFn) -> tuple[list[Dataset], list[Dataset], dict[str, Any]]:
    """A T2 and its T1 anywhere in space, with the truth of their geometry."""
    rows, columns = draw(matrices)
    axes, spacing, step = draw(directions), draw(spacings), draw(st.floats(1.5, 8))
    origin = np.array(draw(st.tuples(*[st.floats(-200, 200)] * 3)))
    slices = draw(st.integers(3, 5))
    t2, t1 = study(slices, rows, columns)
    along_row, along_column, normal = axes.T
    for images, scale in ((t2, 1), (t1, 4)):
        fine = np.array(spacing) / scale
        inset = (np.array(spacing) - fine) / 2  # both start at the same corner of the field of view
        corner = origin - inset[1] * along_row - inset[0] * along_column
        for i, image in enumerate(images):
            image.ImageOrientationPatient = _decimals([*along_row, *along_column])
            image.ImagePositionPatient = _decimals(corner + i * step * normal)
            image.PixelSpacing = _decimals(fine)
            image.SliceThickness = image.SpacingBetweenSlices = format_number_as_ds(step)
    return t2, t1, {"axes": axes, "spacing": spacing, "step": step, "origin": origin}


def _decimals(values: Any) -> list[str]:
    return [format_number_as_ds(float(v)) for v in values]


def place(volume: Volume, index: tuple[float, float, float]) -> NDArray[np.float64]:
    """Patient coordinates of a (slice, row, column) index."""
    along_row, along_column = np.array(volume.orientation)
    between_rows, between_columns = volume.spacing
    first, last = volume.positions[0], volume.positions[-1]
    step = (last - first) / (len(volume.positions) - 1)
    k, r, c = index
    return np.asarray(first + k * step + r * between_rows * along_column + c * between_columns * along_row)


@settings(max_examples=25, deadline=None)
@given(planned(), st.booleans(), st.integers(0, 2**32))
def test_geometry_survives_matching_and_reading(
    made: tuple[list[Dataset], list[Dataset], dict[str, Any]], multiframe: bool, seed: int
) -> None:
    t2, t1, truth = made
    with tempfile.TemporaryDirectory() as folder:
        chance = random.Random(seed)
        images = [enhanced(chance.sample(part, len(part))) for part in (t2, t1)] if multiframe else [*t2, *t1]
        chance.shuffle(images)
        paths = {str(ds.SOPInstanceUID): path for ds, path in zip(images, write(images, Path(folder)), strict=True)}
        headers = [dcmread(path, stop_before_pixels=True) for path in paths.values()]
        (wanted,) = assess_study(headers, MatchSettings(), MODEL).requests
        target, reference = (
            volume_of([paths[uid] for uid in stack.sop_uids], stack.frames)
            for stack in (wanted.target, wanted.reference)
        )
    along_row, along_column, normal = truth["axes"].T
    n, rows, columns = target.pixels.shape
    for k, r, c in ((0, 0, 0), (n - 1, 0, columns - 1), (0, rows - 1, 0), (n - 1, rows - 1, columns - 1)):
        expected = truth["origin"] + k * truth["step"] * normal
        expected = expected + r * truth["spacing"][0] * along_column + c * truth["spacing"][1] * along_row
        assert np.abs(place(target, (k, r, c)) - expected).max() < TOLERANCE_MM
        # A coarse pixel is four fine ones, whose middle is its own.
        assert np.abs(place(reference, (k, 4 * r + 1.5, 4 * c + 1.5)) - expected).max() < TOLERANCE_MM
    assert np.array_equal(target.pixels, [image.pixel_array for image in t2])
    assert np.array_equal(reference.pixels, [image.pixel_array for image in t1])


@settings(max_examples=15, deadline=None)
@given(planned(), st.integers(0, 2**32), st.booleans())
def test_the_order_of_arrival_makes_no_difference(
    made: tuple[list[Dataset], list[Dataset], dict[str, Any]], seed: int, multiframe: bool
) -> None:
    t2, t1, _ = made
    headers = [*t2, enhanced(t1)] if multiframe else [*t2, *t1]
    expected = assess_study(headers, MatchSettings(), MODEL)
    assert expected.outcome == "paired"
    random.Random(seed).shuffle(headers)
    assert assess_study(headers, MatchSettings(), MODEL).to_json() == expected.to_json()


@settings(max_examples=15, deadline=None)
@given(planned())
def test_rows_and_columns_swapped_are_the_same_image_in_space(
    made: tuple[list[Dataset], list[Dataset], dict[str, Any]],
) -> None:
    t2, _, _ = made
    with tempfile.TemporaryDirectory() as folder:
        plain = volume_of(write(t2, Path(folder) / "plain"))
        for image in t2:
            pixels = image.pixel_array.T
            image.PixelData, (image.Rows, image.Columns) = pixels.tobytes(), pixels.shape
            image.ImageOrientationPatient = [*image.ImageOrientationPatient[3:], *image.ImageOrientationPatient[:3]]
            image.PixelSpacing = image.PixelSpacing[::-1]
        swapped = volume_of(write(t2, Path(folder) / "swapped"))
    n, rows, columns = plain.pixels.shape
    for k, r, c in ((0, 0, 0), (n - 1, 3, columns - 1), (0, rows - 1, 5)):
        # The normal points the other way, and the slices come in the other order.
        assert np.abs(place(plain, (k, r, c)) - place(swapped, (n - 1 - k, c, r))).max() < TOLERANCE_MM
        assert plain.pixels[k, r, c] == swapped.pixels[n - 1 - k, c, r]
