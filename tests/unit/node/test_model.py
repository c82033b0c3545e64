"""What names an infer job: a setting that changes pixels makes another job, any other does not."""

from typing import Any

import pytest

from node.config.settings import Settings
from node.weights import pixel_settings


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"precision": "bfloat16"}},
        {"model": {"data_consistency": True}},
        {"registration": {"mode": "none"}},
        {"registration": {"tolerance_mm": 1.0}},
        {"registration": {"max_spread_mm": 0.5}},
        {"acquisition": {"spectrum": False}},
        {"acquisition": {"crop": False}},
    ],
    ids=lambda changes: str(changes),
)
def test_settings_that_change_pixels_are_part_of_the_name(changes: dict[str, Any]) -> None:
    assert pixel_settings(Settings(**changes)) != pixel_settings(Settings())


@pytest.mark.parametrize(
    "changes",
    [{"report": {"ensemble": 4, "hold": True, "max_inconsistency": 0.2}}, {"model": {"max_attempts": 9}}],
    ids=lambda changes: str(changes),
)
def test_others_are_not(changes: dict[str, Any]) -> None:
    assert pixel_settings(Settings(**changes)) == pixel_settings(Settings())
