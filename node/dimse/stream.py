"""The bytes of one connection, plain or TLS: blocking reads into memory that the caller owns, each within a time limit.

A reader thread reads; any thread may write, and any thread may `cut` the connection, which ends whatever blocks."""

import hashlib
import select
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

_FOREVER_S = 0.0
_KEEPALIVE_IDLE_S, _KEEPALIVE_INTERVAL_S, _KEEPALIVE_PROBES = 30, 10, 3


class StreamClosedError(Exception):
    """The connection ended before all bytes were read or written."""


class StreamTimeoutError(Exception):
    """The peer did not send, or did not take, its bytes within the time limit."""


@dataclass(frozen=True)
class Certificate:
    """What a verified certificate says about its owner."""

    common_name: str
    sha256: str
    """Of the certificate itself (DER), in hex: its fingerprint."""


class Stream:
    """A plain TCP connection. Timeouts are the kernel's (SO_RCVTIMEO), so one system call reads a whole value."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        self._socket = connection
        self._read_limit_s = self._write_limit_s = _FOREVER_S
        self._write_lock = threading.Lock()

    def prepare(self) -> None:
        """Set up for DICOM's pattern of small answers; a peer that has lost power is noticed within a minute."""
        with suppress(OSError):  # not TCP, or the peer has left already
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)

    def acknowledge_at_once(self) -> None:
        """A sender with Nagle's algorithm holds back the end of its message until what came before is acknowledged. Linux
        delays that by up to 40 ms unless told otherwise, and has to be told again after each exchange."""
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except OSError:  # not TCP, or the peer has left
            return

    def read_some(self, view: memoryview, within_s: float) -> int:
        """Read what is there into `view`, at least one byte; 0 at the end of the stream. StreamTimeoutError when nothing
        comes in time."""
        return self._receive(view, within_s, 0)

    def fill(self, view: memoryview, within_s: float) -> None:
        """Read until `view` is full. StreamClosedError when the stream ends before, StreamTimeoutError when it takes longer
        than `within_s`, however the bytes are spread over that time."""
        filled = self._receive(view, within_s, socket.MSG_WAITALL)
        if filled == len(view):
            return
        deadline = time.monotonic() + within_s
        while filled < len(view):
            count = self._receive(view[filled:], deadline - time.monotonic(), socket.MSG_WAITALL)
            if count == 0:
                raise StreamClosedError
            filled += count

    def write(self, data: bytes, within_s: float) -> None:
        """Send all of `data`. StreamClosedError when the peer has left, StreamTimeoutError when it does not take it."""
        with self._write_lock:
            self._send(data, within_s)

    def finish(self, within_s: float, at_most: int = 1 << 20) -> None:
        """Say that nothing more will be sent, and wait for the peer to leave: closing at once would make the kernel discard
        what the peer has not read yet."""
        view = memoryview(bytearray(16384))
        deadline = time.monotonic() + within_s
        with suppress(StreamClosedError, StreamTimeoutError, OSError):
            self._shutdown(socket.SHUT_WR)
            while at_most > 0:
                count = self.read_some(view, deadline - time.monotonic())
                if count == 0:
                    return
                at_most -= count

    def cut(self) -> None:
        """End the connection in both directions, from any thread: what blocks in it returns."""
        with suppress(OSError):
            self._shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back. Only for the thread that reads, when it is done."""
        with suppress(OSError):
            self._socket.close()

    def certificate(self) -> Certificate | None:
        """The certificate of the peer, when it showed one that was verified."""
        return None

    def _receive(self, view: memoryview, within_s: float, flags: int) -> int:
        try:
            if within_s != self._read_limit_s:
                self._limit(socket.SO_RCVTIMEO, within_s)
                self._read_limit_s = within_s
            return self._socket.recv_into(view, 0, flags)
        except BlockingIOError:
            raise StreamTimeoutError from None
        except OSError:
            return 0  # a reset is an end too

    def _send(self, data: bytes, within_s: float) -> None:
        view = memoryview(data)
        deadline = 0.0
        while len(view):
            try:
                if within_s != self._write_limit_s:
                    self._limit(socket.SO_SNDTIMEO, within_s)
                    self._write_limit_s = within_s
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                raise StreamTimeoutError from None
            except OSError:
                raise StreamClosedError from None
            if len(view):  # a peer that takes little at a time gets no more time
                deadline = deadline or time.monotonic() + within_s
                if time.monotonic() > deadline:
                    raise StreamTimeoutError

    def _limit(self, option: int, seconds: float) -> None:
        if seconds <= 0:
            raise StreamTimeoutError
        self._socket.setsockopt(socket.SOL_SOCKET, option, _timeval(seconds))

    def _shutdown(self, how: int) -> None:
        self._socket.shutdown(how)


@lru_cache(maxsize=64)
def _timeval(seconds: float) -> bytes:
    whole, fraction = divmod(max(seconds, 0.001), 1)  # zero would mean for ever
    return struct.pack("ll", int(whole), int(fraction * 1_000_000))


class TLSStream(Stream):
    """The same over TLS. One thread at a time may use an OpenSSL connection, so the socket never blocks: whoever has to
    wait does so without holding the lock."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        super().__init__(connection)
        connection.settimeout(0)
        self._tls = connection
        self._tls_lock = threading.Lock()

    def handshake(self, within_s: float) -> None:
        """ssl.SSLError when it fails, StreamClosedError when the peer leaves, StreamTimeoutError when it takes too long."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                self._tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, deadline)
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                raise StreamClosedError from None
            except ssl.SSLError:
                raise
            except OSError:
                raise StreamClosedError from None

    def certificate(self) -> Certificate | None:
        encoded, said = self._tls.getpeercert(binary_form=True), self._tls.getpeercert()
        if not encoded or not said:  # none was asked for, or it was not verified
            return None
        subject = cast("tuple[tuple[tuple[str, str], ...], ...]", said.get("subject", ()))
        names = [value for attributes in subject for key, value in attributes if key == "commonName"]
        return Certificate(names[-1] if names else "", hashlib.sha256(encoded).hexdigest())

    def fill(self, view: memoryview, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        filled = 0
        while filled < len(view):
            count = self._receive(view[filled:], deadline - time.monotonic(), 0)
            if count == 0:
                raise StreamClosedError
            filled += count

    def _receive(self, view: memoryview, within_s: float, flags: int) -> int:
        deadline = time.monotonic() + within_s
        while True:
            try:
                with self._tls_lock:
                    return self._tls.recv_into(view)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, deadline)
            except (OSError, ValueError):  # ssl.SSLError is an OSError; ValueError when the TLS layer is gone
                return 0

    def _send(self, data: bytes, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        view = memoryview(data)
        while len(view):
            try:
                with self._tls_lock:
                    sent = self._tls.send(view)
                view = view[sent:]
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, deadline)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, deadline)
            except (OSError, ValueError):
                raise StreamClosedError from None

    def _wait(self, event: int, deadline: float) -> None:
        seconds = deadline - time.monotonic()
        poll = select.poll()
        try:
            poll.register(self._tls.fileno(), event)
        except ValueError:  # closed meanwhile
            raise StreamClosedError from None
        if seconds <= 0 or not poll.poll(seconds * 1000):
            raise StreamTimeoutError

    def _shutdown(self, how: int) -> None:
        if how == socket.SHUT_WR:
            with self._tls_lock, suppress(OSError, ValueError):
                self._tls.unwrap()  # which says that this is the end, and would then wait for the peer to say so
        # SSLSocket.shutdown would drop the TLS layer, and send what follows in the clear.
        socket.socket.shutdown(self._tls, how)
