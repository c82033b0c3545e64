"""Whether messages to people can leave."""

from node.checks import Check, Level
from node.config.settings import Settings
from node.errors import ConfigError, NodeError
from node.notify.channels import Channels


def messages(settings: Settings, *, send_test: bool) -> Check:
    """The addresses in [notify] can be used. `send_test` sends a message that says it is a test."""
    name = "messages"
    assert settings.notify is not None
    try:
        channels = Channels(settings.notify)
    except ConfigError as error:
        return Check(name, Level.FAIL, str(error), "correct [notify]; config/node.toml explains it")
    if not send_test:
        return Check(name, Level.OK, f"{channels.count} addresses; --send-test writes to them")
    title = f"DiffMSR node {settings.scp.ae_title}: a test"
    if not channels.send(title, ["This is a test by diffmsr-node doctor. Nothing is wrong."]):
        fix = "see whether the addresses in [notify] are right, and their servers answer"
        return Check(name, Level.FAIL, "the test message did not leave by any address", fix, failure=NodeError)
    return Check(name, Level.OK, "a test message has left")
