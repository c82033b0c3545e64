"""The networks of Table 1: what each of them has to do before a comparison means anything."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from diffmsr.acquisition import FEATURES
from diffmsr.images import zero_filled_channels
from diffmsr.inference import SuperResolver, WeightsError
from diffmsr.manifest import WEIGHTS_FILE, Manifest, TrainedPair
from diffmsr.models import PRESETS, Batch, Model, Objective, build, standard_normal
from diffmsr.models.peers.discdiff import DisCDiff, DisCDiffConfig, estimated_image, signal_share
from diffmsr.models.peers.masa import best_places, offsets
from diffmsr.models.peers.mcsr import halved
from diffmsr.models.peers.mcvarnet import measured_part
from diffmsr.models.peers.wavtrans import haar, inverse_haar

PEERS = sorted(name for name, config in PRESETS.items() if config.peer)


def lively(name: str) -> Model:
    """A network as training may leave it: what starts at zero is something."""
    torch.manual_seed(0)
    model = build(PRESETS[name])
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return model


def batch_of(rows: int = 16, columns: int = 16) -> Batch:
    """Two images of noise."""
    generator = torch.Generator().manual_seed(1)
    low = torch.rand(2, 2, rows, columns, generator=generator)
    truth, reference = (torch.rand(2, 2, 4 * rows, 4 * columns, generator=generator) for _ in range(2))
    return Batch(low, truth, reference, zero_filled_channels(low, 4), [3, 4], torch.zeros(2, FEATURES))


def test_the_papers_seven_are_there() -> None:
    assert PEERS == ["discdiff", "masa", "mcmrsr", "mcsr", "mcvarnet", "minet", "wavtrans"]
    assert not any(PRESETS[name].peer for name in ("small", "cnn", "paper"))


@pytest.mark.parametrize("name", PEERS)
def test_any_size_gives_an_image_of_four_times_the_size(name: str) -> None:
    model, batch = lively(name).eval(), batch_of(18, 21)
    with torch.inference_mode():
        image = model(batch.low, batch.reference, batch.noise(model.noise_shape(18, 21)))
    assert image.shape == (2, 2, 72, 84) and image.isfinite().all()


@pytest.mark.parametrize("name", PEERS)
def test_its_loss_moves_every_parameter(name: str) -> None:
    model = lively(name)
    model.begin_stage(1, None, Objective())
    torch.stack(list(model.loss(batch_of(), 1, Objective()).values())).sum().backward()  # type: ignore[no-untyped-call]
    still = [key for key, of in model.named_parameters() if of.grad is None or not of.grad.any()]
    assert not still


@pytest.mark.parametrize("name", PEERS)
def test_inference_repeats_itself_and_looks_at_target_and_reference(name: str) -> None:
    model, batch = lively(name).eval(), batch_of()
    noise = batch.noise(model.noise_shape(16, 16))
    with torch.inference_mode():
        image, again, alone, unguided, untargeted = (
            model(low, reference, noise[: len(low)])
            for low, reference in (
                (batch.low, batch.reference),
                (batch.low, batch.reference),
                (batch.low[:1], batch.reference[:1]),
                (batch.low, batch.reference.flip(0)),
                (batch.low.flip(0), batch.reference),
            )
        )
    assert torch.equal(image, again)
    assert torch.allclose(image[:1], alone, atol=1e-5)  # whatever else is in the batch
    for other in (unguided, untargeted):
        assert (image - other).abs().max() > 2e-5


@pytest.mark.parametrize("name", [name for name in PEERS if name != "discdiff"])
def test_before_training_it_gives_the_zero_filled_target(name: str) -> None:
    batch = batch_of()
    with torch.inference_mode():
        image = build(PRESETS[name]).eval()(batch.low, batch.reference, torch.empty(2, 0))
    assert torch.allclose(image, batch.skip, atol=1e-5)


def test_a_diffusion_samples_by_its_noise_in_any_number_of_steps() -> None:
    batch, images = batch_of(), {}
    weights = lively("discdiff").state_dict()
    for steps in (1, 3):
        model = DisCDiff(DisCDiffConfig("discdiff", steps=steps)).eval()
        model.load_state_dict(weights)
        for seed in (1, 2):
            noise = standard_normal([seed, seed], model.noise_shape(16, 16))
            with torch.inference_mode():
                images[steps, seed] = model(batch.low, batch.reference, noise)
    different = [images[1, 1], images[1, 2], images[3, 1], images[3, 2]]
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(different) for b in different[:i])


def test_the_image_is_what_its_noise_leaves() -> None:
    image, noise = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    signal, deviation = signal_share(torch.tensor([0.01, 0.5, 0.99]))
    assert torch.allclose(signal**2 + deviation**2, torch.ones_like(signal))
    assert torch.allclose(
        estimated_image(signal * image + deviation * noise, noise, signal, deviation), image, atol=1e-4
    )


def test_times_do_not_depend_on_noise() -> None:
    batch = batch_of()
    times = batch.uniform()
    assert torch.equal(times, batch.uniform()) and ((times >= 0) & (times < 1)).all() and times[0] != times[1]


def test_wavelets_transform_back() -> None:
    image = torch.randn(2, 2, 8, 12)
    coefficients = haar(image)
    assert torch.allclose(inverse_haar(coefficients), image, atol=1e-6)
    assert torch.allclose(coefficients.square().sum(), image.square().sum())
    assert torch.allclose(
        haar(torch.ones(1, 1, 4, 4)), torch.tensor([2.0, 0, 0, 0])[None, :, None, None].expand(1, 4, 2, 2)
    )


def test_halving_keeps_the_place_of_every_second_pixel() -> None:
    ramp = torch.arange(16.0).expand(1, 2, 8, 16)
    assert torch.allclose(halved(ramp)[..., 1:], ramp[..., ::2, 2::2])


def test_matching_finds_what_was_moved() -> None:
    key = nn.functional.normalize(torch.randn(1, 9, 12, 12), dim=1)
    centre = torch.tensor([[[5, 5], [0, 0]]])
    query = torch.stack([key[0, :, 6, 4], key[0, :, 1, 1]])[None]
    place, similarity = best_places(query, key, centre, offsets(2, key.device))
    assert place.tolist() == [[[6, 4], [1, 1]]]
    assert torch.allclose(similarity, torch.ones(1, 2))


def test_the_measured_part_of_a_zero_filled_image_is_the_image() -> None:
    filled = batch_of().skip
    assert torch.allclose(measured_part(filled, 4), filled, atol=1e-5)
    assert torch.allclose(
        measured_part(measured_part(batch_of().truth, 4), 4), measured_part(batch_of().truth, 4), atol=1e-5
    )


def test_the_node_does_not_run_its_weights(tmp_path: Path) -> None:
    save_file(
        {key: of.contiguous() for key, of in build(PRESETS["minet"]).state_dict().items()}, tmp_path / WEIGHTS_FILE
    )
    sha256 = hashlib.sha256((tmp_path / WEIGHTS_FILE).read_bytes()).hexdigest()
    pairs = (TrainedPair("T2", "T1"),)
    Manifest("peer", "1", "minet", sha256, 4, "magnitude", 0.0, "slice-max", pairs, "", "", {}, {}).write(tmp_path)
    with pytest.raises(WeightsError, match="minet is a published network to compare with"):
        SuperResolver.load(tmp_path)
    assert SuperResolver.load(tmp_path, peers=True).manifest.preset == "minet"
