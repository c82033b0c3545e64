"""One normalisation: a network sees the same images in whatever unit they come, in training, validation and inference."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from diffmsr.data import Augmentation, Slice, training_sample
from diffmsr.inference import SuperResolver
from diffmsr.manifest import default_weights_folder, read_manifest
from diffmsr.models import Model, build
from diffmsr.models.diffmsr import DiffMSRConfig
from diffmsr.normalisation import normalised, slice_maximum
from diffmsr.train.validation import validate
from tests.unit.diffmsr.data.images import phantom

UNITS = [1.0, 4095.0, 1e-5, 1e-9]
"""Of arbitrary stored values, and of k-space data in physical units: fastMRI's maxima are about 1e-4 and less."""


def piece(unit: float, kind: str) -> Slice:
    target = phantom(64, 64).astype(np.complex64 if kind == "complex" else np.float32)
    if kind == "complex":
        target = target * np.exp(1j * np.linspace(0, 2, 64)).astype(np.complex64)
    return Slice("x", "x", 3, "held-out", {"T2": unit * target, "T1": unit * phantom(64, 64, seed=1)})


@pytest.fixture(scope="module")
def model() -> Model:
    """A network that changes what it adds to."""
    torch.manual_seed(0)
    model = build(
        DiffMSRConfig("mini", channels=16, blocks=(1,), latent=16, extractor_width=8, extractor_blocks=1, tail_width=4)
    )
    nn.init.normal_(model.tail[-1].weight, std=0.1)  # type: ignore[index, union-attr, arg-type]
    return model.eval()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", ["magnitude", "complex"])
@pytest.mark.parametrize("stage", [1, 2])
def test_the_unit_of_the_data_does_not_matter_in_validation(model: Model, unit: float, kind: str, stage: int) -> None:
    usual = validate(model, [piece(1.0, kind)], stage, kind)["x"]
    assert abs(usual) > 0.5
    assert validate(model, [piece(unit, kind)], stage, kind)["x"] == pytest.approx(usual, abs=1e-3)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", ["magnitude", "complex"])
def test_the_unit_of_the_data_does_not_matter_in_training(unit: float, kind: str) -> None:
    usual, given = (
        training_sample(piece(of, kind), 32, np.random.default_rng(0), Augmentation(), kind) for of in (1.0, unit)
    )
    for ours, theirs in zip(usual, given, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_of_the_data_does_not_matter_in_inference(model: Model, unit: float) -> None:
    manifest = replace(read_manifest(default_weights_folder()), preset="mini")
    resolver = SuperResolver(model, manifest, torch.device("cpu"), torch.float32)
    target, reference = phantom(16, 16)[None], phantom(64, 64, seed=1)[None]
    usual = resolver(target, reference, [0])
    assert np.allclose(resolver(unit * target, unit * reference, [0]) / unit, usual, atol=1e-4)


@settings(max_examples=50, deadline=None)
@given(exponent=st.floats(-30, 30), seed=st.integers(0, 2**31), kind=st.sampled_from([torch.float32, torch.complex64]))
def test_the_largest_magnitude_becomes_one(exponent: float, seed: int, kind: torch.dtype) -> None:
    images = torch.randn(2, 5, 7, dtype=kind, generator=torch.Generator().manual_seed(seed)) * 10**exponent
    scaled = normalised(images)
    assert torch.allclose(scaled.abs().amax(dim=(-2, -1)) if scaled.is_complex() else scaled.amax(dim=(-2, -1)), torch.ones(2), atol=1e-5)  # fmt: skip
    assert torch.allclose(scaled * slice_maximum(images), images, rtol=1e-5)


def test_an_empty_image_stays_empty() -> None:
    assert torch.equal(normalised(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))
