"""A prior that differs from slice to slice, and a stage two that first teaches the diffusion alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffmsr.acquisition import FEATURES
from diffmsr.models import Batch, build
from diffmsr.models.diffmsr import DiffMSR, DiffMSRConfig
from diffmsr.models.diffmsr.blocks import Extractor
from diffmsr.models.diffmsr.live import LiveExtractor, Standardise
from diffmsr.train import Config, Stage, resume, save, start
from diffmsr.train.step import step


def varied(slices: int) -> torch.Tensor:
    """Images (slices, 16, 16, 2) that differ by a third, as slices of heads do."""
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(1, 16, 16, 2, generator=generator)
    return base * (1 + 0.3 * torch.randn(slices, 16, 16, 2, generator=generator))


def spread(latents: torch.Tensor) -> float:
    """Variation over slices, relative to the latent's own size."""
    return float(latents.detach().std(dim=0).norm() / latents.detach().mean(dim=0).norm().clamp_min(1e-9))


def test_the_live_prior_tells_slices_apart_and_the_other_hardly() -> None:
    torch.manual_seed(0)
    usual, live = Extractor(2, 24, 2, 96), LiveExtractor(2, 24, 2, 96)
    for _ in range(60):
        live(varied(16))
    images = varied(16)
    assert spread(usual(images)) < 0.1
    latents = live.eval()(images)
    assert float(latents.detach().std(dim=0).mean()) == pytest.approx(1, abs=0.35)


def test_standardising_learns_only_while_it_trains_with_gradients() -> None:
    part = Standardise(3)
    z = torch.randn(8, 3, requires_grad=True) * 5 + 2
    with torch.no_grad():
        part(z)
    part.eval()(z)
    assert float(part.batches) == 0
    part.train()(z)
    torch.testing.assert_close(part.mean, z.detach().mean(dim=0))


def config(**changes: object) -> Config:
    stage = Stage(slices=8, patch=64, batch=2, learning_rate=1e-3)
    values = {"data": {"lgg": "x"}, "share": {"lgg": 1.0}, "stage_one": stage, "stage_two": stage, "warmup": 1}
    return Config(
        **{
            **values,
            "preset": "mini",
            "network": {"live": True, "acquisition": True},
            "precision": "float32",
            **changes,
        }
    )  # type: ignore[arg-type]


def batch() -> Batch:
    images = (torch.rand(2, 2, side, side) for side in (16, 64, 64, 64))
    return Batch(*images, (0, 1), torch.rand(2, FEATURES))


@pytest.mark.usefixtures("mini")
def test_the_diffusion_learns_alone_first_and_then_with_the_rest() -> None:
    settings = config(stage_one=Stage(slices=2, patch=64, batch=2), diffusion_first=4)
    run = start(settings)
    from diffmsr.train.checkpoint import enter_stage_two

    step(run, settings, [batch()])
    enter_stage_two(run, settings)
    body = run.model.embed.weight.clone()
    for _ in range(2):
        assert step(run, settings, [batch()]).keys() == {"diff"}
    torch.testing.assert_close(run.model.embed.weight, body, rtol=0, atol=0)
    assert step(run, settings, [batch()]).keys() == {"diff", "img", "dc"}
    assert not torch.equal(run.model.embed.weight, body)


@pytest.mark.usefixtures("mini")
def test_running_statistics_are_kept_with_a_run(tmp_path: Path) -> None:
    settings = config()
    run = start(settings)
    step(run, settings, [batch()])
    save(run, tmp_path)
    again = resume(settings, tmp_path)
    for network, kept in ((run.model, again.model), (run.average, again.average)):
        assert float(network.encoder.standardise.batches) == 1
        torch.testing.assert_close(kept.encoder.standardise.mean, network.encoder.standardise.mean)


@pytest.mark.parametrize("prior", [True, False])
def test_facts_of_the_acquisition_modulate_with_and_without_a_prior(mini: DiffMSRConfig, prior: bool) -> None:
    torch.manual_seed(0)
    model = build(replace(mini, acquisition=True, prior=prior))
    for parameter in (*model.acquisition.outward.parameters(), *model.tail[-1].parameters()):
        torch.nn.init.normal_(parameter, std=0.1)
    given = batch()
    noise = torch.zeros(2, *model.noise_shape(16, 16))
    told, untold = (model(given.low, given.reference, noise, None, facts) for facts in (given.facts, None))
    assert not torch.allclose(told, untold)
    zeros = model(given.low, given.reference, noise, None, torch.zeros(2, FEATURES))
    torch.testing.assert_close(untold, zeros)
    fast = model.eval().optimised(torch.float32)(given.low, given.reference, noise, given.facts)
    torch.testing.assert_close(fast, told, rtol=1e-4, atol=1e-4)


def test_a_gated_prior_leaves_a_network_that_learnt_without_one_as_it_was_and_then_learns(mini: DiffMSRConfig) -> None:
    live = replace(mini, live=True, acquisition=True)
    without, gated = build(replace(live, prior=False)), build(replace(live, gated_prior=True))
    assert isinstance(gated, DiffMSR)
    missing, unexpected = gated.load_state_dict(without.state_dict(), strict=False)
    assert not unexpected and {name.split(".")[0] for name in missing} == {"encoder", "diffusion", "prior_gate"}
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in without.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    gated.load_state_dict(without.state_dict(), strict=False)
    low, high = torch.rand(2, 2, 16, 16, generator=draw), torch.rand(2, 2, 64, 64, generator=draw)
    facts = torch.rand(2, FEATURES, generator=draw)
    as_it_was = without(low, high, torch.zeros(2, 0), None, facts)
    begun = gated.reconstruct(low, high, gated.latent(gated.prior_of(high, low), facts, 2))
    assert torch.equal(begun, as_it_was)
    begun.square().sum().backward()  # type: ignore[no-untyped-call]
    assert gated.prior_gate.grad is not None and gated.prior_gate.grad.abs().min() > 0
