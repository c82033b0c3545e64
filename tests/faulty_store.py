"""A proxy in front of an object store, which does to requests what networks, gateways and busy stores do."""

import http.client
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("busy", "broken", "gateway", "silent", "slow", "closed", "half a request", "no answer", "half an answer")


class FaultyStore:
    """Passes requests on to the store at `url` until `fault` says what happens to the next one, which may be anything of
    FAULTS, or None."""

    def __init__(self, url: str, fault: Callable[[], str | None] = lambda: None) -> None:
        self.fault = fault
        self.hurry = threading.Event()
        """Ends whatever is silent."""
        upstream = urlsplit(url).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(handler) -> None:  # noqa: N805
                self._pass_on(handler, upstream)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that have given up
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.hurry.set()
        self._server.shutdown()
        self._server.server_close()

    def _pass_on(self, handler: BaseHTTPRequestHandler, upstream: str) -> None:
        fault = self.fault()
        handler.close_connection = fault is not None
        length = int(handler.headers.get("Content-Length", 0))
        if fault == "half a request":
            handler.rfile.read(length // 2)
            return
        body = handler.rfile.read(length)
        if fault == "closed":
            return
        if fault == "silent":
            self.hurry.wait(600)
            return
        if fault in ("busy", "broken", "gateway"):
            self._complain(handler, fault)
            return
        if fault == "slow":
            time.sleep(0.3)
        connection = http.client.HTTPConnection(upstream)
        headers = {k: v for k, v in handler.headers.items() if k.lower() != "connection"}
        connection.request(handler.command, handler.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if fault == "no answer":
            return
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("server", "date", "connection", "transfer-encoding", "content-length"):
                handler.send_header(name, value)
        said = answer.getheader("Content-Length", str(len(content))) if handler.command == "HEAD" else str(len(content))
        handler.send_header("Content-Length", said)
        handler.end_headers()
        if fault == "half an answer":
            handler.wfile.write(content[: len(content) // 2])
            handler.wfile.flush()
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        handler.wfile.write(content if handler.command != "HEAD" else b"")

    def _complain(self, handler: BaseHTTPRequestHandler, fault: str) -> None:
        status, text = {
            "busy": (
                503,
                b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>",
            ),
            "broken": (500, b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>Oh</Message></Error>"),
            "gateway": (502, b"<html>\n<body>Bad gateway\x1b[31m</body></html>"),
        }[fault]
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text if handler.command != "HEAD" else b"")
