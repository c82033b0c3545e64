"""The learning rate over a run."""

from dataclasses import replace

import pytest

from diffmsr.train import Config, Stage
from diffmsr.train.config import learning_rate


def test_the_learning_rate_rises_and_falls_in_each_stage(config: Config) -> None:
    config = replace(config, stage_one=Stage(100, 1e-3), stage_two=Stage(200, 1e-4), warmup=10)
    rates = [learning_rate(config, n) for n in range(300)]
    assert max(rates[:100]) > 0.95e-3 and rates[0] == pytest.approx(1e-4, rel=0.01) and rates[99] < 3e-5
    assert max(rates[100:]) > 0.95e-4 and rates[100] == pytest.approx(1e-5, rel=0.01) and rates[299] < 3e-6


def test_the_papers_schedule_halves_at_its_milestones(config: Config) -> None:
    """Of 500 thousand steps, at 250, 400, 450 and 475 thousand."""
    config = replace(config, stage_one=Stage(500, 2e-4), stage_two=Stage(500, 2e-4), warmup=0, schedule="paper")
    rates = [learning_rate(config, n) / 2e-4 for n in (0, 249, 250, 399, 400, 449, 450, 474, 475, 499, 500)]
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 1]
