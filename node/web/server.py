"""The web server, in a thread of the service."""

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any

import structlog
import uvicorn

from node.config.web import WebSettings, is_loopback
from node.errors import ConfigError
from node.web.app import create_app
from node.web.site import Site

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """uvicorn looks ten times per second whether it is to stop, which would be most of what an idle node does. This one is
    woken to stop, and else looks once per second, for the Date header."""

    _leaving: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    async def main_loop(self) -> None:
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        self._leaving = loop, asked
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), 1.0)

    def leave(self) -> None:
        """Have the server finish what it is answering and end. Any thread may call this."""
        self.should_exit = True
        if self._leaving is not None:
            loop, asked = self._leaving
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(asked.set)


class WebServer:
    """Serves the pages of a site from `start` to `stop`."""

    def __init__(self, site: Site) -> None:
        self._settings = site.settings.web
        self._site = site
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen. ConfigError when the address or the certificate cannot be used, or the users file cannot be read."""
        web = self._settings
        self._site.users.account("")
        if web.tls is None and not is_loopback(web.host) and web.users_file is not None:
            log.warning("web.not_encrypted", reason="passwords cross the network as they are: set [web.tls]")
        listening = _listen(web)
        config = uvicorn.Config(
            create_app(self._site),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the address of the peer itself decides whom to trust
            timeout_graceful_shutdown=5,
            limit_concurrency=200,
            lifespan="off",
            **_tls(web),
        )
        self._server = _Server(config)
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            listening.close()
            raise ConfigError(f"[web.tls]: {error.strerror or error}") from None
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="web", daemon=True)
        self._thread.start()
        log.info("web.ready", address=self.address)

    def stop(self, patience_s: float = 10) -> None:
        """Stop listening, and wait for what is being answered."""
        if self._server is not None and self._thread is not None:
            self._server.leave()
            self._thread.join(patience_s)

    @property
    def address(self) -> str:
        """Where a browser finds the pages."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"{'https' if self._settings.tls else 'http'}://{host}:{self._settings.port}/"


def _listen(web: WebSettings) -> socket.socket:
    """The listening socket, so that an address that is taken is an error of the start."""
    try:
        family, *_, address = socket.getaddrinfo(web.host, web.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=100)
    except OSError as error:
        raise ConfigError(
            f"[web] cannot listen on {web.host} port {web.port}: {error.strerror}; choose another host or port, or set "
            "enabled = false"
        ) from None


def _tls(web: WebSettings) -> dict[str, Any]:
    if web.tls is None:
        return {}
    options: dict[str, Any] = {"ssl_certfile": str(web.tls.cert_file), "ssl_keyfile": str(web.tls.key_file)}
    if web.tls.ca_file is not None:
        options |= {"ssl_ca_certs": str(web.tls.ca_file), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return options
