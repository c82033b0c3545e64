"""What a replayed step reads: the graph itself needs a GPU, its inputs do not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffmsr.acquisition import FEATURES
from diffmsr.models import Batch
from diffmsr.train import Config, train
from diffmsr.train.replay import HeldBatch, way_of
from diffmsr.train.step import update
from tests.unit.diffmsr.train.runs import flat


def batch(first_seed: int) -> Batch:
    draw = torch.Generator().manual_seed(first_seed)
    low, *high = (torch.rand(2, 2, side, side, generator=draw) for side in (16, 64, 64, 64))
    return Batch(low, *high, [first_seed, first_seed + 1], torch.rand(2, FEATURES, generator=draw))


def test_a_held_batch_takes_the_values_of_the_next_one_into_the_same_memory() -> None:
    first, second = batch(1), batch(5)
    images = [image.clone() for image in second.images]
    held = HeldBatch(*first.images, first.seeds, first.facts)
    noise, uniform = held.noise((7,)), held.uniform()
    assert torch.equal(noise, first.noise((7,))) and torch.equal(uniform, first.uniform())
    places = [tensor.data_ptr() for tensor in (*held.images, held.facts, noise, uniform)]
    held.take(second)
    assert all(torch.equal(a, b) for a, b in zip(held.images, images, strict=True))
    assert torch.equal(held.facts, second.facts)
    assert torch.equal(held.noise((7,)), second.noise((7,))) and torch.equal(held.uniform(), second.uniform())
    assert [t.data_ptr() for t in (*held.images, held.facts, held.noise((7,)), held.uniform())] == places


def test_steps_are_launched_one_by_one_on_a_processor(config: Config) -> None:
    assert way_of(config) is update


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_replayed_steps_learn_what_launched_ones_learn(config: Config, tmp_path: Path) -> None:
    runs = [train(replace(config, device="cuda", replay=on), tmp_path / str(on)) for on in (False, True)]
    launched, replayed = map(flat, runs)
    assert float((launched - replayed).norm()) < 1e-3 * float(launched.norm())
