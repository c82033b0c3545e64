"""Results as bytes: nothing is lost, the same gives the same, and no damage goes unnoticed."""

import json
import random
from dataclasses import asdict, fields, replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from node.archive.codec import Measured, decode_measured, decode_result, encode_result
from node.result import Acquired, AcquisitionFact, Quality, Registration, Result

numbers = st.floats(-1e6, 1e6)
vectors = st.tuples(numbers, numbers, numbers)
words = st.text(max_size=20)
registrations = st.builds(
    Registration, shift_mm=st.tuples(numbers, numbers), rotation_deg=numbers, trusted=st.booleans(),
    corrected=st.booleans(), displacement_mm=numbers, spread_mm=st.none() | numbers,
)  # fmt: skip
qualities = st.builds(
    Quality, consistency=st.lists(numbers), intensity_drift=st.lists(numbers), registration=st.none() | registrations,
    seed_spread=st.none() | st.lists(numbers), usable=st.booleans(), reasons=st.lists(words),
)  # fmt: skip
facts = st.builds(
    AcquisitionFact, name=words, value=words, source=st.sampled_from(["header", "spectrum", "both", "unknown"]),
    confidence=st.none() | numbers,
)  # fmt: skip
acquisitions = st.builds(Acquired, facts=st.lists(facts), undone=st.lists(words))

ARRAYS = ("pixels", "positions", "expected_error")


@st.composite
def results(draw: Any) -> Result:
    shape = draw(arrays.array_shapes(min_dims=3, max_dims=3, max_side=5))
    return Result(
        pixels=draw(arrays.arrays(np.float32, shape, elements=st.floats(0, 1e6, width=32))),
        positions=draw(arrays.arrays(np.float64, (shape[0], 3), elements=numbers)),
        orientation=(draw(vectors), draw(vectors)),
        spacing=(draw(numbers), draw(numbers)),
        source_uids=draw(st.lists(words)),
        reference_uids=draw(st.lists(st.lists(words))),
        model_name=draw(words),
        model_version=draw(words),
        weights_sha256=draw(words),
        scale=draw(st.integers(1, 8)),
        parameters=draw(st.dictionaries(words, words)),
        warnings=draw(st.lists(words)),
        source_frames=draw(st.none() | st.lists(st.integers(1, 999))),
        reference_frames=draw(st.none() | st.lists(st.lists(st.integers(1, 999)))),
        quality=draw(st.none() | qualities),
        acquired=draw(st.none() | acquisitions),
        expected_error=draw(st.none() | halves(shape)),
    )


def halves(shape: tuple[int, ...]) -> st.SearchStrategy[NDArray[np.float32]]:
    """What half precision can say."""
    values = arrays.arrays(np.float16, shape, elements=st.floats(0, 65504, width=16))
    return values.map(lambda array: array.astype(np.float32))


def same(one: Result, other: Result) -> bool:
    plain = [{k: v for k, v in asdict(r).items() if k not in ARRAYS} for r in (one, other)]
    return (
        plain[0] == plain[1]
        and (one.quality, one.acquired) == (other.quality, other.acquired)
        and all(np.array_equal(getattr(one, k), getattr(other, k)) for k in ARRAYS)
        and one.pixels.dtype == other.pixels.dtype
    )


@settings(max_examples=50, deadline=None)
@given(results())
def test_a_result_comes_back_as_it_was(result: Result) -> None:
    content = encode_result(result)
    found = decode_result(content)
    assert same(found, result)
    assert decode_measured(BytesIO(content)) == Measured(result.quality, result.acquired, tuple(result.warnings))
    assert encode_result(found) == content, "the same result gives the same bytes"


def test_every_fact_of_a_result_is_kept(study: Any) -> None:
    moved = Registration((1.0, 2.0), 3.0, True, False, 4.0, None)
    quality = Quality([0.1], [0.2], moved, None, False, ["so"], expected_error=[0.1], unsure=[0.02])
    acquired = Acquired([AcquisitionFact("acquired rows", "3 of 4", "both", 0.9)], ["k-space cropped to 3 x 4"])
    result = replace(study.result, quality=quality, acquired=acquired, source_frames=[1, 2, 3], warnings=["W: so"])
    result = replace(result, expected_error=np.rint(result.pixels / 8))
    found = decode_result(encode_result(result))
    assert all(
        np.array_equal(getattr(found, f.name), getattr(result, f.name))
        if f.name in ARRAYS else getattr(found, f.name) == getattr(result, f.name)
        for f in fields(Result)
    )  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(results(), st.integers(0, 2**32))
def test_no_flipped_bit_goes_unnoticed(result: Result, seed: int) -> None:
    content = bytearray(encode_result(result))
    bit = random.Random(seed).randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="digest"):
        decode_result(bytes(content))


@pytest.mark.parametrize("damage", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_what_is_no_result_is_one_clear_error(damage: bytes) -> None:
    with pytest.raises(ValueError, match="digest"):
        decode_result(damage)
    with pytest.raises(ValueError, match="not a result"):
        decode_measured(BytesIO(damage))


def test_a_result_of_a_version_without_digests_is_read(study: Any) -> None:
    result: Result = replace(study.result, expected_error=None)
    facts = {k: v for k, v in asdict(result).items() if k not in (*ARRAYS, "acquired")}
    old = BytesIO()
    np.savez(old, pixels=result.pixels, positions=result.positions, facts=np.array(json.dumps(facts)))
    content = old.getvalue()
    assert same(decode_result(content), result)
    at = content.index(result.pixels.tobytes())
    with pytest.raises(ValueError, match="not a result"):
        decode_result(content[:at] + b"?" + content[at + 1 :])
