"""A dozen kills in every test run. `python -m tests.chaos` has as many as one wants."""

from pathlib import Path

import pytest

from tests.chaos.story import run

pytestmark = pytest.mark.acceptance


def test_twelve_kills(tmp_path: Path) -> None:
    wrong, figures = run(tmp_path, seed=346, kills=12)  # a seed with all faults in it
    assert not wrong, f"{figures}\n" + "\n".join(wrong)
