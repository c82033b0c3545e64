"""The weights that the engine loads, and the real network."""

import hashlib
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from node.config.settings import ModelSettings
from node.errors import ModelError
from node.infer.engine import read_model
from tests.unit.node.infer.test_engine import load, request_for, silent, super_resolve, volume


@pytest.mark.parametrize("load", [read_model, load], ids=["manifest", "weights"])
def test_missing_weights_are_one_line(load: Callable[[ModelSettings], Any], tmp_path: Any) -> None:
    with pytest.raises(ModelError) as failed:
        load(ModelSettings(path=tmp_path / "none", device="cpu"))
    assert str(tmp_path / "none") in str(failed.value)
    assert "\n" not in str(failed.value)


@pytest.fixture
def weights(tmp_path: Any) -> Any:
    """A folder with an untrained network of the smallest preset: real code, arbitrary numbers."""
    import torch
    from safetensors.torch import save_file

    from diffmsr.manifest import MANIFEST_FILE, WEIGHTS_FILE, Manifest, TrainedPair
    from diffmsr.models import PRESETS, build

    torch.manual_seed(0)
    path = tmp_path / "weights" / WEIGHTS_FILE
    path.parent.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in build(PRESETS["tiny"]).state_dict().items()}, path)
    facts = {field.name: "" for field in fields(Manifest)} | {
        "name": "untrained", "version": "0", "preset": "tiny", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "scale": 4, "input_kind": "magnitude", "grid_offset": 0.0, "normalisation": "slice-max", "consistency": "low",
        "trained_pairs": (TrainedPair("T2", "T1"),), "training": {}, "metrics": {},
    }  # fmt: skip
    Manifest(**facts).write(path.parent)
    assert (path.parent / MANIFEST_FILE).is_file()
    return path.parent


def test_the_real_network_gives_the_same_bytes_every_time(weights: Any) -> None:
    target, reference = volume("3", (3, 20, 18), (2.0, 2.4)), volume("44", (3, 80, 72), (0.5, 0.6))
    settings = ModelSettings(path=weights, device="auto", batch_slices=2)
    assert read_model(settings).name == "untrained"
    request = request_for(target, reference)
    first, second = (super_resolve(load(settings), target, reference, request, silent) for _ in range(2))
    assert first.pixels.shape == (3, 80, 72)
    assert first.pixels.tobytes() == second.pixels.tobytes()
    assert first.weights_sha256 == read_model(settings).sha256


def test_a_device_that_is_not_there_is_one_line(weights: Any) -> None:
    with pytest.raises(ModelError, match=r"\[model\] device = 'cuda:7' cannot be used") as failed:
        load(ModelSettings(path=weights, device="cuda:7"))
    assert "\n" not in str(failed.value)


def test_damaged_weights_are_one_line(weights: Any) -> None:
    (weights / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="SHA-256"):
        load(ModelSettings(path=weights, device="cpu"))


def test_weights_for_complex_images_are_refused(weights: Any) -> None:
    manifest = weights / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"magnitude"', '"complex"'))
    for use in (read_model, load):
        with pytest.raises(ModelError, match="untrained takes complex images; DICOM series are magnitudes"):
            use(ModelSettings(path=weights, device="cpu"))
