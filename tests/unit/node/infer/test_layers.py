"""The layers file: what the viewer shows is the stored values of what was made, and of what it was made from."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffmsr.baselines import zero_filled
from node.archive.facade import Archive
from node.archive.layers import LayersFile, open_layers
from node.archive.layout import keys_of_result, layers_key
from node.dicom.stored_values import intensity_factor, stored_values
from node.errors import DamagedError, MissingError
from node.infer.engine import SuperResolved
from node.infer.layers import encode_result_layers
from node.infer.volume import Volume
from node.result import Result

SLICES, ROWS, COLUMNS, SCALE = 5, 16, 12, 4


@pytest.fixture(scope="module")
def seen() -> SuperResolved:
    """A result whose intensities are those of a scanner, not whole numbers, and a faint reference."""
    random = np.random.default_rng(1)
    fine = SLICES, ROWS * SCALE, COLUMNS * SCALE
    positions = np.array([[-3.5, 2.25, 4.0 * n] for n in range(SLICES)])
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    target = Volume(
        pixels=random.random((SLICES, ROWS, COLUMNS), dtype=np.float32) * 1500, positions=positions, orientation=axes,
        spacing=(2.0, 2.4), slice_thickness=4.0, sop_uids=tuple(f"1.2.3.{n}" for n in range(SLICES)), frame_of_reference_uid="1.9",
    )  # fmt: skip
    result = Result(
        pixels=random.random(fine, dtype=np.float32) * 1800, positions=positions, orientation=axes, spacing=(0.5, 0.6),
        source_uids=list(target.sop_uids), reference_uids=[[] for _ in range(SLICES)], model_name="m", model_version="1",
        weights_sha256="0", scale=SCALE, parameters={}, warnings=[],
    )  # fmt: skip
    return SuperResolved(result, target, random.random(fine, dtype=np.float32) * 90)


def layers_of(content: bytes, index: int) -> tuple[LayersFile, dict[str, np.ndarray]]:
    layers = open_layers(BytesIO(content))
    info = layers.info
    frames = np.frombuffer(layers.read_slice(index), "<u2").reshape(len(info.layers), info.rows, info.columns)
    return layers, {layer.name: frames[i] for i, layer in enumerate(info.layers)}


def test_each_layer_has_the_stored_values_of_what_it_shows(seen: SuperResolved) -> None:
    content = encode_result_layers(seen)
    factor = intensity_factor(seen.result.pixels)
    for index in range(5):
        layers, frames = layers_of(content, index)
        assert np.array_equal(frames["super_resolved"], stored_values(seen.result.pixels[index], factor))
        filled = zero_filled(seen.target.pixels[index : index + 1], 4)[0]
        assert np.array_equal(frames["zero_filled"], stored_values(filled, factor))
        own = intensity_factor(seen.reference)
        assert np.array_equal(frames["reference"], stored_values(seen.reference[index], own))
    assert {layer.name: layer.slope for layer in layers.info.layers} == {
        "zero_filled": 1 / factor, "super_resolved": 1 / factor, "reference": 1 / own
    }  # fmt: skip
    assert layers.info.positions == tuple(map(tuple, seen.result.positions.tolist()))
    assert (layers.info.spacing, layers.info.orientation) == (seen.result.spacing, seen.result.orientation)
    assert encode_result_layers(seen) == content


def test_the_trust_map_is_a_layer_with_a_factor_of_its_own(seen: SuperResolved) -> None:
    expected = seen.result.pixels / 64
    layers, frames = layers_of(
        encode_result_layers(replace(seen, result=replace(seen.result, expected_error=expected))), 2
    )
    assert [layer.name for layer in layers.info.layers] == [
        "zero_filled",
        "super_resolved",
        "reference",
        "expected_error",
    ]
    own = layers.info.layers[-1].slope
    assert own < layers.info.layers[1].slope
    assert np.abs(frames["expected_error"] * own - expected[2]).max() <= own / 2 + 1e-6
    kept, _ = layers_of(encode_result_layers(seen), 2)
    assert len(kept.info.layers) == 3, "a result without one, as versions before made it"


def test_a_zero_filled_image_that_would_be_clipped_scales_both(seen: SuperResolved) -> None:
    """They are subtracted from each other, so they keep one factor."""
    bright = replace(seen, target=replace(seen.target, pixels=seen.target.pixels * 5000))
    layers, frames = layers_of(encode_result_layers(bright), 0)
    slopes = {layer.name: layer.slope for layer in layers.info.layers}
    assert slopes["zero_filled"] == slopes["super_resolved"] > 1 / intensity_factor(seen.result.pixels)
    filled = zero_filled(bright.target.pixels[:1], 4)[0]
    assert np.abs(frames["zero_filled"] * slopes["zero_filled"] - filled).max() <= slopes["zero_filled"] / 2 + 1e-3


def test_the_archive_keeps_them_with_the_result_and_says_what_is_lost(tmp_path, seen: SuperResolved) -> None:  # type: ignore[no-untyped-def]
    archive = Archive.in_folder(tmp_path)
    with pytest.raises(MissingError), archive.layers("infer:1"):
        pass
    content = encode_result_layers(seen)
    archive.put_layers("infer:1", content)
    with archive.layers("infer:1") as layers:
        assert layers.read_slice(4) == open_layers(BytesIO(content)).read_slice(4)
        for index in (-1, 5):
            with pytest.raises(IndexError):
                layers.read_slice(index)
    assert layers_key("infer:1") in keys_of_result("infer:1")
    (tmp_path / layers_key("infer:1")).write_bytes(content[:-10])
    with archive.layers("infer:1") as layers:
        assert layers.read_slice(3)
    with pytest.raises(DamagedError), archive.layers("infer:1") as layers:
        layers.read_slice(4)


@given(st.data())
def test_a_bit_that_changed_is_never_shown(seen: SuperResolved, data: st.DataObject) -> None:
    content = bytearray(encode_result_layers(seen))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ValueError):
        layers = open_layers(BytesIO(content))
        for index in range(SLICES):
            layers.read_slice(index)


def test_a_file_of_an_earlier_version_is_read_and_compared_as_a_whole(seen: SuperResolved) -> None:
    content = encode_result_layers(seen)
    layers = open_layers(BytesIO(content))
    description = layers.info.model_dump_json(exclude={"slices_sha256"}).encode()
    frames = b"".join(layers.read_slice(index) for index in range(SLICES))
    earlier = b"DMSRLAY1" + len(description).to_bytes(4, "little") + description + frames
    assert open_layers(BytesIO(earlier)).read_slice(3) == layers.read_slice(3)
    with pytest.raises(ValueError, match="digest"):
        open_layers(BytesIO(earlier[:-1] + bytes([earlier[-1] ^ 1]))).read_slice(0)


@given(st.binary(max_size=300))
def test_no_bytes_but_a_layers_file_are_taken_for_one(content: bytes) -> None:
    with pytest.raises(ValueError):
        open_layers(BytesIO(content))
    with pytest.raises(ValueError):
        open_layers(BytesIO(b"DMSRLAY1" + content))
    with pytest.raises(ValueError):
        open_layers(BytesIO(b"DMSRLAY2" + content))
