"""SuperResolver: what goes in and out, and which weights it refuses."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffmsr.arrays import Magnitudes
from diffmsr.inference import SuperResolver, WeightsError
from diffmsr.kspace import crop_to
from diffmsr.manifest import ManifestError, default_weights_folder, read_manifest


@pytest.fixture(scope="module")
def resolver() -> SuperResolver:
    torch.set_num_threads(1)
    return SuperResolver.load()


def slices(n: int, h: int, w: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n, h, w), np.float32), rng.random((n, 4 * h, 4 * w), np.float32)


def test_shape_unit_and_sign(resolver: SuperResolver) -> None:
    y, x = np.mgrid[-1:1:72j, -1:1:84j]
    reference = np.repeat(((x**2 + y**2 < 0.7) * (1 + x * y)).astype(np.float32)[None], 2, axis=0)
    target = crop_to(reference, 18, 21)
    out = resolver(1000 * target, 7 * reference, [1, 2])
    assert out.shape == (2, 72, 84) and out.dtype == np.float32
    assert np.isfinite(out).all() and (out >= 0).all()
    assert out.mean(axis=(1, 2)) == pytest.approx(1000 * target.mean(axis=(1, 2)), rel=0.05)


def test_the_unit_of_either_image_does_not_matter(resolver: SuperResolver) -> None:
    target, reference = slices(1, 16, 16)
    assert np.allclose(
        resolver(target * 512, reference / 64, [3]), 512 * resolver(target, reference, [3]), rtol=1e-4, atol=0.05
    )


def test_a_batch_is_its_slices_and_the_seed_is_the_slices_own(resolver: SuperResolver) -> None:
    target, reference = slices(3, 16, 20)
    together = resolver(target, reference, [5, 6, 7])
    alone = np.concatenate([resolver(target[i : i + 1], reference[i : i + 1], [5 + i]) for i in range(3)])
    assert np.allclose(together, alone, atol=1e-5)


def test_data_consistency_is_a_switch(resolver: SuperResolver) -> None:
    target, reference = slices(2, 16, 16)
    given_back = SuperResolver.load(consistency="full")(target, reference, [1, 2])
    given, changed = (
        np.abs(crop_to(x, 16, 16) - target).mean() for x in (given_back, resolver(target, reference, [1, 2]))
    )
    assert given < 0.3 * changed


def test_no_attention_window_is_darker_than_it_was_measured() -> None:
    """A floor in air, where the reference shows nothing: the network alone takes it away in some windows of 16 pixels and
    leaves it in others."""
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    head, rng = np.hypot(x / 0.5, y / 0.6) < 1, np.random.default_rng(4)
    brain = rng.random(head.shape)
    floor = np.abs(rng.normal(0.12, 0.03, head.shape)) * np.hypot(x, y)
    truth = np.where(head, 0.4 + 0.6 * brain, floor).astype(np.float32)[None]
    reference = np.where(head, 1 - 0.5 * brain, 0).astype(np.float32)[None]
    target = crop_to(truth, 64, 64)
    alone, consistent = (darkest_window(part, target, reference) for part in ("none", "low"))
    assert alone > 0.05
    assert consistent < 0.6 * alone


def test_noise_is_taken_away_from_all_of_the_air_alike() -> None:
    """Of a head in noise, with a reference that has none, the result has hardly any: the low frequencies do not bring it back."""
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    head, rng = np.hypot(x / 0.5, y / 0.6) < 1, np.random.default_rng(4)
    truth = head * (0.4 + 0.6 * rng.random(head.shape)).astype(np.float32)
    noise = rng.normal(0, 0.03, (2, 64, 64))
    target = np.hypot(crop_to(truth[None], 64, 64) + noise[0], noise[1]).astype(np.float32)
    reference = (head * (1.4 - truth)).astype(np.float32)[None]
    air = np.hypot(x / 0.6, y / 0.7) > 1
    alone, consistent, full = (
        SuperResolver.load(consistency=part)(target, reference, [0])[0][air].mean() for part in ("none", "low", "full")
    )
    assert consistent < 1.2 * alone
    assert consistent < 0.5 * full


def darkest_window(part: str, target: Magnitudes, reference: Magnitudes) -> float:
    """The largest change of the mean of a window of 16 x 16 pixels, over the maximum of the target (1, 64, 64)."""
    image = SuperResolver.load(consistency=part)(target, reference, [0])
    windows = (crop_to(image, 64, 64) - target).reshape(4, 16, 4, 16)
    return float(np.abs(windows.mean(axis=(1, 3))).max()) / float(target.max())


def test_the_same_seeds_give_the_same_bytes(resolver: SuperResolver) -> None:
    target, reference = slices(2, 16, 16)
    first, again, other = (resolver(target, reference, seeds).tobytes() for seeds in ([1, 2**70], [1, 2**70], [1, 9]))
    assert first == again
    assert first != other


def test_an_empty_slice_stays_finite(resolver: SuperResolver) -> None:
    out = resolver(np.zeros((1, 16, 16), np.float32), np.zeros((1, 64, 64), np.float32), [0])
    assert np.isfinite(out).all() and out.max() < 1e-6


def test_bfloat16_is_close(resolver: SuperResolver) -> None:
    target, reference = slices(1, 16, 16)
    half = SuperResolver.load(precision="bfloat16")(target, reference, [1])
    assert np.abs(half - resolver(target, reference, [1])).max() < 0.05


@pytest.mark.parametrize(
    ("target", "reference", "seeds", "says"),
    [
        ((16, 16), (1, 64, 64), 1, r"must be \(n, rows, columns\)"),
        ((2, 16, 16), (2, 64, 60), 2, "the reference of a target"),
        ((2, 16, 16), (1, 64, 64), 2, "the reference of a target"),
        ((2, 16, 16), (2, 64, 64), 1, "need 2 seeds"),
        ((0, 16, 16), (0, 64, 64), 0, "no slice"),
        ((1, 9, 16), (1, 36, 64), 1, "smaller than an attention window"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    resolver: SuperResolver, target: tuple[int, ...], reference: tuple[int, ...], seeds: int, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        resolver(np.ones(target, np.float32), np.ones(reference, np.float32), list(range(seeds)))


def test_nan_is_refused(resolver: SuperResolver) -> None:
    target, reference = slices(1, 16, 16)
    target[0, 3, 3] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        resolver(target, reference, [0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped weights."""
    shutil.copytree(default_weights_folder(), tmp_path, dirs_exist_ok=True)
    return tmp_path


def rehashed(folder: Path) -> None:
    import hashlib

    values = json.loads((folder / "manifest.json").read_text())
    values["sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(values))


def test_a_changed_byte_is_noticed(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="SHA-256 differs"):
        SuperResolver.load(folder)


def test_a_pickle_is_never_loaded(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "sprung"),))  # type: ignore[return-value]

    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    rehashed(folder)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        SuperResolver.load(folder)
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    save_file({"something": torch.zeros(3)}, folder / "model.safetensors")
    rehashed(folder)
    with pytest.raises(WeightsError, match="does not hold the weights of preset") as caught:
        SuperResolver.load(folder)
    assert "\n" not in str(caught.value)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"cannot read .*model\.safetensors: No such file"):
        SuperResolver.load(folder)


def test_unknown_precision(folder: Path) -> None:
    with pytest.raises(ValueError, match="unknown precision 'float8'"):
        SuperResolver.load(folder, precision="float8")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scale": 3}, "scale = 3"),
        ({"input_kind": "phase"}, "input_kind = 'phase'"),
        ({"normalisation": None}, "normalisation = None"),
        ({"grid_offset": "0"}, "grid_offset must be a number"),
        ({"trained_pairs": []}, "trained_pairs is empty"),
        ({"trained_pairs": [{"target": "T2"}]}, "trained_pairs"),
        ({"consistency": "some"}, "consistency = 'some'"),
        ({"surprise": 1}, "unknown keys: surprise"),
    ],
)
def test_a_wrong_manifest_is_refused(folder: Path, change: dict[str, object], says: str) -> None:
    values = json.loads((folder / "manifest.json").read_text()) | change
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(ManifestError, match=says):
        read_manifest(folder)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"name": "x"}'])
def test_a_damaged_manifest_is_refused(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ManifestError):
        read_manifest(folder)


def test_weights_of_before_make_the_images_that_they_made(folder: Path) -> None:
    """Their manifest does not say what of the measured k-space is put back: nothing was."""
    target, reference = slices(1, 16, 16)
    values = json.loads((folder / "manifest.json").read_text())
    assert values.pop("consistency") == "low"
    (folder / "manifest.json").write_text(json.dumps(values))
    before = SuperResolver.load(folder)(target, reference, [1])
    assert np.array_equal(before, SuperResolver.load(consistency="none")(target, reference, [1]))
    assert not np.allclose(before, SuperResolver.load()(target, reference, [1]))


def test_a_manifest_is_read_as_written(folder: Path, tmp_path: Path) -> None:
    manifest = read_manifest(folder)
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest


def test_reading_a_manifest_needs_no_torch() -> None:
    code = (
        "import sys; from diffmsr.manifest import read_manifest, default_weights_folder;"
        "read_manifest(default_weights_folder()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
