"""The power goes at a few moments in every test run. `python -m tests.power` has all of them."""

from pathlib import Path

import pytest

from tests.power.run import run

pytestmark = pytest.mark.acceptance


def test_power_is_lost(tmp_path: Path) -> None:
    wrong, figures = run(tmp_path, cuts=8)
    assert not wrong, f"{figures}\n" + "\n".join(wrong)
