"""The trust map that comes with the weights: what its manifest says is true, it is calibrated on patients whom it never saw, and
it rises where the weights are out of their depth."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from diffmsr.acquisition import header_of
from diffmsr.acquisition.named import NAMED
from diffmsr.data import degrade, read_slices
from diffmsr.evaluate.acquisitions import Trial
from diffmsr.evaluate.trust import judged_stack
from diffmsr.inference import SuperResolver
from diffmsr.manifest import WEIGHTS_FILE, read_manifest, weights_of_package
from diffmsr.trust import TRUST_FOLDER, read_trust_manifest, tissue_of
from node.config.settings import ReportSettings

LIMIT = ReportSettings().max_expected_error


@pytest.fixture(scope="module")
def resolver() -> SuperResolver:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    return SuperResolver.load(trust=True)


@pytest.mark.parametrize("name", ["small", "small-without-diffusion"])
def test_the_manifest_and_the_card_are_those_of_the_file(name: str) -> None:
    weights = weights_of_package(name)
    manifest = read_trust_manifest(weights)
    assert manifest is not None and manifest.of == read_manifest(weights).sha256
    content = (weights / TRUST_FOLDER / WEIGHTS_FILE).read_bytes()
    card = (weights / TRUST_FOLDER / "MODEL_CARD.md").read_text()
    assert hashlib.sha256(content).hexdigest() == manifest.sha256
    assert len(content) < 300_000
    assert manifest.sha256 in card and manifest.metrics
    for figures in manifest.metrics.values():
        for name in ("clean", "typical"):
            assert f"{figures[name]['within']:.1%}" in card


def test_expected_errors_are_true_on_a_patient_never_seen(shared_data: Path, resolver: SuperResolver) -> None:
    """T2 of open_ms patient04, on typical targets: a sanity check with wide bounds; the card has the figures."""
    stack = [piece for piece in read_slices("open_ms", shared_data / "open_ms") if piece.held_out][6::6]
    assert resolver.trust is not None
    trial = Trial("typical", NAMED["typical"], header_of("typical"))
    judged = judged_stack(stack, trial, "T2", "T1", resolver, 2)
    expected, error = (np.concatenate([getattr(one, of) for one in judged]) for of in ("expected", "error"))
    assert 0.6 < expected.mean() / error.mean() < 1.6
    assert 0.8 < (error <= resolver.trust.calibration.limit(expected)).mean() < 0.97
    assert max(one.summary for one in judged) < LIMIT


def test_what_the_weights_do_not_know_raises_it(shared_data: Path, resolver: SuperResolver) -> None:
    """References of elsewhere, displaced ones and none: more is expected than of the right pair. Of a phantom, whose errors are
    small, at least as much is expected as comes."""
    stack = [piece for piece in read_slices("open_ms", shared_data / "open_ms") if piece.held_out][8::8]
    clean = Trial("clean", NAMED["clean"], header_of("clean"))

    def summary(how: str) -> float:
        return float(np.mean([one.summary for one in judged_stack(stack, clean, "T2", "T1", resolver, 2, how)]))

    right = summary("")
    for how in ("foreign", "shifted", "empty"):
        assert summary(how) > 1.1 * right, how
    expected, true = _of_phantom(shared_data / "vendor_dicom", resolver)
    assert expected > true


def _of_phantom(root: Path, resolver: SuperResolver) -> tuple[float, float]:
    """(expected, true) mean error of the tissue of an ACR phantom in a Siemens Skyra, T2 guided by T1, lowered fourfold."""
    t2, t1 = (_middle(root / f"ACR_Siemens_MagnetomSkyra_3T_{contrast}") for contrast in ("T2", "T1"))
    low = degrade(torch.from_numpy(t2), np.random.default_rng(0)).numpy()[None]
    restored = resolver.restore(low, t1[None], [1])
    assert restored.expected_error is not None
    tissue = tissue_of(restored.images)
    return float(restored.expected_error[tissue].mean()), float(np.abs(restored.images - t2)[tissue].mean())


def _middle(folder: Path) -> np.ndarray:
    files = sorted(
        folder.glob("*.dcm"), key=lambda path: int(pydicom.dcmread(path, stop_before_pixels=True).InstanceNumber)
    )
    return np.asarray(pydicom.dcmread(files[0]).pixel_array, dtype=np.float32)
