"""How far a measurement is, on a terminal and in a pipe."""

import io

import pytest

from diffmsr.bench.timing import in_turns


class Stream(io.StringIO):
    """Standard error."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_a_measurement_shows_how_far_it_is_on_a_terminal_only(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(terminal)
    monkeypatch.setattr("sys.stderr", stream)
    shown: list[str] = []
    times = in_turns({"one": lambda: shown.append(stream.getvalue()), "two": lambda: None}, 3, "cpu", "training")
    assert {name: len(of.clock) for name, of in times.items()} == {"one": 3, "two": 3}
    if terminal:
        assert "training" in stream.getvalue()
        assert "33%" in stream.getvalue()
    else:
        assert stream.getvalue() == ""
