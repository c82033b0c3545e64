"""The recipe that comes along."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from diffmsr.acquisition.draw import Mix
from diffmsr.data import Augmentation
from diffmsr.train import TrainingError
from diffmsr.train_trust import Recipe, read_recipe
from diffmsr.train_trust.corruption import Corruption
from diffmsr.train_trust.recipe import Fit, Seen

GOOD = """
data = { lgg = "lgg" }
share = { lgg = 1.0 }
[seen]
slices = 8
[fit]
batch = 2
"""


def test_it_has_every_key() -> None:
    path = Path(__file__).parents[4] / "config" / "trust.toml"
    recipe = read_recipe(path)
    written = tomllib.loads(path.read_text())
    assert written.keys() | {"weights"} == {field.name for field in fields(Recipe)}
    for table, of in (("seen", Seen), ("fit", Fit), ("corruption", Corruption), ("augmentation", Augmentation)):
        assert written[table].keys() == {field.name for field in fields(of)}  # type: ignore[arg-type]
    assert written["acquisitions"].keys() < {field.name for field in fields(Mix)}
    assert recipe.steps == recipe.fit.epochs * recipe.seen.slices // recipe.fit.batch


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("share = { lgg", "share = { other", "same data sets"),
        ("[seen]", "surplus = 1\n[seen]", "surplus"),
        ("slices = 8", "slices = 8\npatch = 66", "divide by 4"),
        ("slices = 8", "slices = 1", "less than a batch"),
        ("lgg = 1.0", "lgg = 0.0", "above 0"),
    ],
)
def test_a_mistake_is_one_clear_line(right: str, wrong: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    path.write_text(GOOD)
    assert read_recipe(path).steps == 48
    path.write_text(GOOD.replace(right, wrong))
    with pytest.raises(TrainingError, match=message) as failed:
        read_recipe(path)
    assert "\n" not in str(failed.value)
