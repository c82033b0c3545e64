"""How long deliveries wait for a destination that is away: as long as `give_up_h` says, or only until their attempts are used up."""

from collections.abc import Iterator

from node.checks import Check, Level
from node.config.settings import DestinationSettings, Settings


def patience(settings: Settings) -> Iterator[Check]:
    """A warning for each destination whose attempts are used up before its hours are."""
    for destination in settings.destinations:
        hours = hours_of_attempts(destination)
        if hours < destination.give_up_h:
            sentence = (
                f"[[destinations]] {destination.name}: {destination.max_attempts} attempts (max_attempts) are used up after about "
                f"{hours:.2g} h, before give_up_h = {destination.give_up_h:g}"
            )
            yield Check("patience", Level.WARN, sentence, "raise max_attempts or the delays, or lower give_up_h")


def hours_of_attempts(destination: DestinationSettings) -> float:
    """From the first failed attempt to the last one, when all fail at once and nothing else waits."""
    pauses = (
        min(destination.max_delay_s, destination.initial_delay_s * 2.0 ** min(n, 32))
        for n in range(destination.max_attempts - 1)
    )
    return sum(pauses) / 3600
