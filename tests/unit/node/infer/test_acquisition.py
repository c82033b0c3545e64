"""What the infer stage makes of headers and spectrum, and where the result lies after a crop."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diffmsr import kspace
from diffmsr.acquisition import FULL, NAMED, Acquisition, Filter, Undoing, onto_stored_grid, simulate, undo
from diffmsr.baselines import zero_filled
from node.config.settings import AcquisitionSettings, ModelSettings, RegistrationSettings, ReportSettings
from node.dicom.acquisition import AcquisitionHeader
from node.errors import RefusedError
from node.infer.acquisition import as_acquisition, understand, undone
from node.infer.engine import Engine
from node.infer.volume import Volume
from node.payloads import PairRequest, StackRequest
from tests.unit.diffmsr.acquisition.heads import complex_head

NARROW = replace(FULL, extent=(0.75, 1.0), noise=0.01)
HEADER_ALONE = AcquisitionSettings(spectrum=False)


def stored_head(acquisition: Acquisition, matrix: tuple[int, int] = (64, 64)) -> NDArray[np.float32]:
    """Slices as a scanner with an acquisition stores them."""
    slices = [simulate(complex_head(i), acquisition, np.random.default_rng(i), matrix) for i in range(4)]
    return np.asarray(torch.stack(slices).numpy())


def volume(pixels: NDArray[np.float32], spacing: tuple[float, float], **more: Any) -> Volume:
    n = len(pixels)
    return Volume(
        pixels=pixels,
        positions=np.array([[0.0, 0.0, 5.0 * i] for i in range(n)]),
        orientation=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
        spacing=spacing,
        slice_thickness=5.0,
        sop_uids=tuple(f"1.2.{i + 1}" for i in range(n)),
        frame_of_reference_uid="1.9",
        **more,
    )


def blobs(rows: int, columns: int, slices: int = 3) -> NDArray[np.float32]:
    """Bright spots without anything near the edge of k-space, so that no method has a reason to change them."""
    y, x = np.mgrid[0:rows, 0:columns]
    images = np.zeros((slices, rows, columns), np.float32)
    for i, (r, c) in enumerate([(0.5, 0.4), (0.3, 0.6), (0.62, 0.55)] * slices):
        images[i % slices] += 100 * np.exp(-((y - r * rows) ** 2 + (x - c * columns) ** 2) / (2 * 1.8**2))
    return images


def enlarged(images: NDArray[np.float32], stored: tuple[int, int]) -> NDArray[np.float32]:
    """Images zero-filled by the scanner to a larger matrix."""
    return np.asarray(kspace.zero_fill(torch.from_numpy(images), *stored).abs().numpy())


class ZeroFilling:
    """A super-resolver whose network zero-fills: of a target that has no more than was acquired nothing may change."""

    manifest = SimpleNamespace(name="zero", version="1", sha256="ab" * 32, scale=4, grid_offset=0.0)
    trust, consistency = None, "none"

    def __call__(
        self, target: Any, reference: Any, seeds: Sequence[int], acquisition: Acquisition, undoing: Undoing
    ) -> Any:
        low = undo(torch.from_numpy(target), acquisition, undoing)
        high = torch.from_numpy(zero_filled(low.numpy(), 4))
        return onto_stored_grid(high, *reference.shape[-2:]).numpy()


class Mistaken(ZeroFilling):
    """One whose result contradicts the target when a filter was divided out."""

    def __call__(
        self, target: Any, reference: Any, seeds: Sequence[int], acquisition: Acquisition, undoing: Undoing
    ) -> Any:
        images = super().__call__(target, reference, seeds, acquisition, undoing)
        return 1.5 * images if undoing.filter and (acquisition.filter or Filter()).kind != "none" else images


def result_of(target: Volume, settings: AcquisitionSettings = HEADER_ALONE, resolver: Any = None) -> Any:
    rows, columns = target.pixels.shape[1:]
    fine = (target.spacing[0] / 4, target.spacing[1] / 4)
    reference = volume(np.ones((len(target.pixels), 4 * rows, 4 * columns), np.float32), fine)
    stack = StackRequest(series_uid="1.2", contrast="T2", sop_uids=target.sop_uids)
    engine = Engine(
        resolver or ZeroFilling(), "cpu", ModelSettings(), RegistrationSettings(mode="none"), settings, ReportSettings()  # type: ignore[arg-type]
    )  # fmt: skip
    request = PairRequest(study_uid="1", target=stack, reference=stack)
    return engine.super_resolve(target, reference, request, lambda _done, _total: None).result


@pytest.mark.parametrize(
    ("matrix", "stored"),
    [((48, 64), (64, 64)), ((41, 64), (51, 64)), ((37, 45), (64, 57)), ((33, 20), (65, 63)), ((50, 64), (51, 64))],
    ids=str,
)
def test_the_result_lies_exactly_on_four_times_the_stored_grid(
    matrix: tuple[int, int], stored: tuple[int, int]
) -> None:
    target = volume(enlarged(blobs(*matrix), stored), (1.2, 1.2), acquisition=AcquisitionHeader(matrix))
    result = result_of(target)
    assert result.pixels.shape == (3, 4 * stored[0], 4 * stored[1])
    assert result.spacing == pytest.approx((0.3, 0.3)), "square pixels, as stored"
    assert np.array_equal(result.positions, target.positions)
    expected = zero_filled(target.pixels, 4)
    assert np.abs(result.pixels - expected).max() < 0.01 * expected.max(), "shifted by nothing"
    assert max(result.quality.consistency) < 0.01
    cropped = "k-space cropped to {} x {}".format(
        *(m if s / m > 1.03 else s for m, s in zip(matrix, stored, strict=True))
    )
    assert result.acquired.undone == ([cropped] if matrix != (50, 64) else [])
    assert result.parameters.get("undone before", "") == ", ".join(result.acquired.undone)


def test_every_step_and_source_has_a_switch() -> None:
    target = volume(
        enlarged(blobs(48, 64), (64, 64)), (1.2, 1.2), acquisition=AcquisitionHeader((48, 64), filter="hamming")
    )
    assert understand(target, HEADER_ALONE).acquired.undone == [
        "k-space cropped to 48 x 64",
        "hamming filter divided out",
    ]
    for switch, left in (
        ("crop", ["hamming filter divided out"]),
        ("filter", ["k-space cropped to 48 x 64"]),
        ("header", []),
    ):
        settings = AcquisitionSettings(spectrum=False, **{switch: False})
        assert understand(target, settings).acquired.undone == left


def test_partial_fourier_is_undone_only_where_the_images_show_its_loss() -> None:
    """A header does not say whether the missing side was filled in."""
    target = volume(stored_head(FULL), (1.2, 1.2), acquisition=AcquisitionHeader((64, 64), (0.75, 1.0)))
    assert understand(target, HEADER_ALONE).acquired.undone == []
    assert understand(target, AcquisitionSettings()).acquired.undone == []


def test_facts_have_source_and_confidence() -> None:
    target = volume(stored_head(NARROW), (1.2, 1.2), acquisition=AcquisitionHeader((48, 64)))
    facts = {fact.name: fact for fact in understand(target, HEADER_ALONE).acquired.facts}
    assert (facts["acquired rows"].value, facts["acquired rows"].source) == ("48 of 64", "header")
    assert facts["acquired rows"].confidence is None
    assert (facts["noise"].value, facts["noise"].source) == ("unknown", "unknown")
    asked = {fact.name: fact for fact in understand(target, AcquisitionSettings()).acquired.facts}
    assert asked["acquired rows"].value == "48 of 64"
    assert 0 <= (asked["acquired rows"].confidence or -1) <= 1


def test_a_header_against_a_clear_spectrum_loses_with_a_warning() -> None:
    target = volume(stored_head(NARROW), (1.2, 1.2), acquisition=AcquisitionHeader((64, 64)))
    found = understand(target, AcquisitionSettings())
    assert found.acquired.undone[0].startswith(
        ("k-space cropped to 47", "k-space cropped to 48", "k-space cropped to 49")
    )
    (warning,) = found.warnings
    assert warning.startswith("W_ACQUISITION: the header says that 100% of the k-space along rows was acquired")
    facts = {fact.name: fact for fact in found.acquired.facts}
    assert facts["acquired rows"].source == "spectrum"


@pytest.mark.parametrize(("matrix", "stored"), [((15, 64), (64, 64)), ((None, None), (15, 64))])
def test_too_small_a_matrix_is_refused(matrix: Any, stored: tuple[int, int]) -> None:
    target = volume(blobs(*stored), (1.2, 1.2), acquisition=AcquisitionHeader(matrix))
    with pytest.raises(RefusedError, match=r"E_MATRIX_TOO_SMALL: .* 15 x 64 pixels; the model needs 16 x 16"):
        understand(target, HEADER_ALONE)


def test_a_filter_that_only_the_spectrum_shows_is_taken_back_when_the_result_contradicts_the_images() -> None:
    target = volume(stored_head(NAMED["fermi"]), (1.2, 1.2))
    believed = result_of(target, AcquisitionSettings())
    assert believed.acquired.undone == ["fermi filter divided out"]
    doubted = result_of(target, AcquisitionSettings(), Mistaken())
    assert doubted.acquired.undone == []
    assert {f.name: f.value for f in doubted.acquired.facts}["filter over k-space"] == "unknown"
    assert [w for w in doubted.warnings if "it was not divided out" in w]
    assert max(doubted.quality.consistency) < 0.02
    named = volume(stored_head(FULL), (1.2, 1.2), acquisition=AcquisitionHeader((64, 64), filter="hamming"))
    assert result_of(named, HEADER_ALONE, Mistaken()).acquired.undone == ["hamming filter divided out"]


def test_what_is_measured_is_compared_as_it_was_undone() -> None:
    acquired = blobs(48, 64)
    target = volume(enlarged(acquired, (64, 64)), (1.2, 1.2), acquisition=AcquisitionHeader((48, 64)))
    measured = undone(target, understand(target, HEADER_ALONE))
    assert measured.pixels.shape == (3, 48, 64)
    assert measured.spacing == pytest.approx((1.6, 1.2))
    assert np.abs(measured.pixels - acquired).max() < 0.01 * acquired.max()
    as_stored = understand(target, AcquisitionSettings(spectrum=False, crop=False))
    assert np.array_equal(undone(target, as_stored).pixels, target.pixels), "to the last bit"


def test_a_header_in_terms_of_the_model() -> None:
    header = AcquisitionHeader((48, None), (0.75, 1.0), "hanning", True)
    found = as_acquisition(header, (64, 60))
    assert (found.extent, found.partial_fourier, found.ellipse) == ((0.75, None), (0.75, 1.0), True)
    assert found.filter is not None and (found.filter.kind, found.filter.strength) == ("hamming", 1.0)
    assert as_acquisition(replace(header, filter="other"), (64, 60)).filter is None
