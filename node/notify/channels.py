"""How a message leaves: by every address in [notify], through apprise, which knows e-mail, webhooks and a hundred services."""

import logging
from collections.abc import Sequence

import structlog

from node.config.notify import NotifySettings
from node.errors import ConfigError

log = structlog.get_logger()


class Channels:
    """The addresses of a configuration. Neither logs nor errors show them: they hold passwords."""

    def __init__(self, settings: NotifySettings) -> None:
        """ConfigError when there is none, or apprise does not understand one."""
        import apprise  # it takes half a second

        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its warnings quote addresses
        self._plugins = []
        for number, address in enumerate(settings.addresses, 1):
            plugin = apprise.Apprise.instantiate(address)
            if plugin is None:
                raise ConfigError(
                    f"[notify]: apprise does not understand address {number}; such as mailtos://USER:PASSWORD@HOST?to=NAME@HOST, "
                    "or jsons://HOST/PATH for a webhook"
                )
            self._plugins.append(plugin)
        if not self._plugins:
            raise ConfigError("[notify]: there is no address in it")

    @property
    def count(self) -> int:
        """How many addresses there are."""
        return len(self._plugins)

    def send(self, title: str, lines: Sequence[str]) -> bool:
        """Write to all; whether at least one message left."""
        sent = [self._send_by(plugin, title, "\n".join(lines)) for plugin in self._plugins]
        return any(sent)

    def _send_by(self, plugin: "apprise.NotifyBase", title: str, body: str) -> bool:  # type: ignore[name-defined]  # noqa: F821
        try:
            sent = bool(plugin.notify(title=title, body=body, notify_type="warning"))
        except Exception as error:  # each of its hundred services has errors of its own
            log.error("notify.failed", service=plugin.service_name, error=type(error).__name__)
            return False
        if not sent:
            check = "see whether its address is right and its server answers; diffmsr-node doctor --send-test tries it"
            log.error("notify.failed", service=str(plugin.service_name), check=check)
        return sent
