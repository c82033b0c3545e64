"""Messages of errors."""

from node.errors import NotFoundError, PeerError


def test_a_message_commands_no_terminal() -> None:
    """A part of it may be what a server has answered."""
    assert str(PeerError("HTTP 500 \x1b[31mOh\x07\u202e\r\nno")) == "HTTP 500 \\x1b[31mOh\\x07\\u202e\\r\nno"
    assert str(NotFoundError()) == "There is nothing of that name here."
