"""DIMSE messages out of P-DATA (PS3.8 annex E): a command set, and a data set when the command says so."""

from collections.abc import Callable

from node.dimse.command import MAX_COMMAND, Command, MalformedCommandError
from node.dimse.pdu import Header
from node.dimse.stream import Stream

_BEFORE = 2
"""Bytes kept free before the data set: there the two bytes between an item's length and its value are read to."""
_FIRST_SIZE, _KEPT_SIZE = 1 << 16, 1 << 22
"""Of the buffer: when it is made, and what is kept of it from one message to the next."""


class InvalidDataError(Exception):
    """A P-DATA PDU is malformed, or out of turn; the message says what."""


class TooLargeError(Exception):
    """A data set is larger than the configuration allows."""


class Incoming:
    """Gathers one message after the other. The value of a PDU is read to where it belongs in the data set."""

    def __init__(self, max_data_set: int, drops: Callable[[int], bool] = lambda context_id: False) -> None:
        """`drops` says whether the data sets of a presentation context are not gathered, however large they are."""
        self._max = max_data_set
        self._drops = drops
        self._buffer = memoryview(bytearray(_FIRST_SIZE))
        self._end = _BEFORE
        self._command_set = bytearray()
        self._rest, self._at = b"", 0
        self.context_id: int | None = None
        """Of the message that has begun; None between two messages."""
        self.command: Command | None = None
        self.complete = False

    @property
    def data_set(self) -> memoryview:
        """As it came. It is overwritten by the next message."""
        return self._buffer[_BEFORE : self._end]

    def read(self, stream: Stream, header: Header, within_s: float) -> bool:
        """Read the rest of a P-DATA PDU; whether a message is complete now. Then `proceed` has to be called before the next
        read. InvalidDataError and TooLargeError as they say; raises as `Stream.fill` too."""
        length, item = header.length - 4, header.first
        if not 2 <= item <= length:
            raise InvalidDataError("an item is longer than its PDU, or too short")
        begin = self._end - _BEFORE
        self._reserve(begin + length)
        overwritten = bytes(self._buffer[begin : self._end])
        body = self._buffer[begin : begin + length]
        stream.fill(body, within_s)
        context_id, control = body[0], body[1]
        self._rest, self._at = bytes(body[item:]), 0
        body[:_BEFORE] = overwritten
        self._take(context_id, control, item - 2)
        return self._take_rest()

    def proceed(self) -> bool:
        """Begin the next message; whether the PDU that was read last holds all of it."""
        self._end = _BEFORE
        self._command_set.clear()
        self.context_id = self.command = None
        self.complete = False
        if len(self._buffer) > _KEPT_SIZE:
            self._buffer = memoryview(bytearray(_FIRST_SIZE))
        return self._take_rest()

    def _take_rest(self) -> bool:
        """The further items of a PDU, up to the end of a message."""
        rest = self._rest
        while self._at < len(rest) and not self.complete:
            at = self._at
            item = int.from_bytes(rest[at : at + 4], "big")
            self._at = at + 4 + item
            if item < 2 or self._at > len(rest):
                raise InvalidDataError("an item is longer than its PDU, or too short")
            self._reserve(self._end + item - 2)
            self._buffer[self._end : self._end + item - 2] = rest[at + 6 : self._at]
            self._take(rest[at + 4], rest[at + 5], item - 2)
        return self.complete

    def _take(self, context_id: int, control: int, length: int) -> None:
        """Take a value, which is in the buffer behind the data set that was read so far."""
        if self.context_id is None:
            self.context_id = context_id
        elif context_id != self.context_id:
            raise InvalidDataError("a message changes its presentation context")
        last = bool(control & 2)
        if control & 1:
            if self.command is not None:
                raise InvalidDataError("a command set comes where a data set has to")
            self._command_set += self._buffer[self._end : self._end + length]
            if len(self._command_set) > MAX_COMMAND:
                raise InvalidDataError("an endless command set")
            if last:
                try:
                    self.command = Command(self._command_set)
                except MalformedCommandError as error:
                    raise InvalidDataError(str(error)) from None
                self.complete = not self.command.has_data_set
        else:
            if self.command is None:
                raise InvalidDataError("a data set where a command set is required")
            if not self._drops(context_id):
                self._end += length
            if self._end - _BEFORE > self._max:
                raise TooLargeError
            self.complete = last

    def _reserve(self, size: int) -> None:
        if size > len(self._buffer):
            larger = memoryview(bytearray(max(size, 2 * len(self._buffer))))
            larger[: self._end] = self._buffer[: self._end]
            self._buffer = larger
