"""Named acquisitions, measured on heads whose answer is known from the method that is measured."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffmsr.acquisition import Acquisition, Undoing, onto_stored_grid, undo
from diffmsr.baselines import zero_filled
from diffmsr.data import SCALE, DataError
from diffmsr.evaluate import acquisition_table, evaluate_acquisitions
from tests.unit.diffmsr.acquisition.heads import head


@pytest.fixture
def lgg(tmp_path: Path) -> Path:
    """Two held-out patients of eight slices each: the spectrum of fewer is too uneven to be taken for that of a head."""
    rows = ["file,subject,site,slice,has_t1post"]
    for number in range(16):
        pixels = np.stack([255 * head(number).numpy()] * 3, axis=-1)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.webp", lossless=True)
        rows.append(f"{number}.webp,{'ab'[number // 8]},CS,{number},0")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


class Undone:
    """Zero-filling of the undone target, which remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Acquisition] = []

    def __call__(
        self,
        target: np.ndarray,
        reference: np.ndarray,
        seeds: Sequence[int],
        acquisition: Acquisition = Acquisition(),
        undoing: Undoing = Undoing(),
    ) -> np.ndarray:
        self.told.append(acquisition)
        filled = zero_filled(undo(torch.from_numpy(target), acquisition, undoing).numpy(), SCALE)
        return onto_stored_grid(torch.from_numpy(filled), *reference.shape[-2:]).numpy()


def test_undoing_gains_where_there_is_something_to_undo(lgg: Path) -> None:
    method = Undone()
    figures = evaluate_acquisitions("lgg", lgg, {"ours": method}, ["clean", "hamming"])
    assert (figures["split"], figures["n_patients"]) == ("held-out", 2)
    clean, hamming = figures["acquisitions"]["clean"], figures["acquisitions"]["hamming"]
    assert clean["n_slices"] == 16
    assert clean["gains"]["ours"]["mean"] == pytest.approx(0, abs=0.05)
    assert hamming["stored"] < clean["stored"]
    assert hamming["gains"]["ours"]["mean"] > 1
    assert hamming["gains"]["without undoing"]["mean"] == pytest.approx(0, abs=1e-3)
    low, high = hamming["gains"]["ours"]["interval"]
    assert low <= hamming["gains"]["ours"]["mean"] <= high
    assert hamming["gains"]["ours"]["worst slice"] <= hamming["gains"]["ours"]["mean"]
    assert Acquisition.from_json(hamming["estimates"]["a"][0]["acquisition"]).filter is not None
    text = acquisition_table(figures)
    assert "hamming" in text and "ours" in text


def test_switched_off_nothing_is_gained(lgg: Path) -> None:
    off = Undoing(crop=False, filter=False, partial_fourier=False)
    figures = evaluate_acquisitions("lgg", lgg, {"ours": Undone()}, ["hamming"], undoing=off, every=3)
    assert figures["acquisitions"]["hamming"]["n_slices"] == 6
    assert figures["acquisitions"]["hamming"]["gains"]["ours"]["mean"] == pytest.approx(0, abs=1e-3)


def test_the_oracle_is_told_the_truth(lgg: Path) -> None:
    method = Undone()
    evaluate_acquisitions("lgg", lgg, {"ours": method}, ["typical"], oracle=True, every=3)
    assert Acquisition() in method.told  # without undoing
    assert any(told.noise == 0.01 and told.ellipse for told in method.told)


def test_an_unknown_name_is_refused_with_the_known_ones(lgg: Path) -> None:
    with pytest.raises(DataError, match=r"unknown acquisitions blurred; known acquisitions are clean, phase80"):
        evaluate_acquisitions("lgg", lgg, {"ours": Undone()}, ["blurred"])
