"""A network and a data set small enough to train in a test."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffmsr.data.lgg import VALIDATION
from diffmsr.models import PRESETS
from diffmsr.models.diffmsr import DiffMSRConfig

MINI = DiffMSRConfig(
    "mini", channels=16, blocks=(1,), latent=16, extractor_width=8, extractor_blocks=1, reference_width=4, tail_width=4
)


@pytest.fixture
def mini(monkeypatch: pytest.MonkeyPatch) -> Iterator[DiffMSRConfig]:
    """The preset `mini`, known by name; and one thread, which is faster for it."""
    monkeypatch.setitem(PRESETS, "mini", MINI)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield MINI
    torch.set_num_threads(before)


@pytest.fixture
def noise_lgg(tmp_path: Path) -> Path:
    """An LGG folder of five patients with a slice of noise each: two of the site that is held out, one to validate on."""
    folder = tmp_path / "lgg"
    folder.mkdir()
    rows = ["file,subject,site,slice,has_t1post"]
    for i in range(5):
        pixels = np.random.default_rng(i).integers(60, 255, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.webp", lossless=True)
        rows.append(f"{i}.webp,{VALIDATION[0] if i == 2 else f'patient-{i}'},{'CS' if i >= 3 else 'DU'},{i},1")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder
