"""A collector of audit messages: a syslog receiver over TLS or TCP (RFC 5425: each message after its length), or UDP. It judges
messages by the structure of the schema in PS3.15 A.5.1."""

import re
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

_HEADER = re.compile(
    rb"<(8[45])>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (\S+) diffmsr-node (\d+) DICOM\+RFC3881 - \xef\xbb\xbf(.*)",
    re.S,
)
_CODE = ({"csd-code", "codeSystemName", "originalText"}, {"displayName"})
_ATTRIBUTES: Mapping[str, tuple[set[str], set[str]]] = {
    "AuditMessage": (set(), set()),
    "EventIdentification": ({"EventDateTime", "EventOutcomeIndicator"}, {"EventActionCode"}),
    "ActiveParticipant": (
        {"UserID", "UserIsRequestor"},
        {"AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode"},
    ),
    "AuditSourceIdentification": ({"AuditSourceID"}, {"AuditEnterpriseSiteID"}),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID"},
        {"ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole", "ParticipantObjectDataLifeCycle"},
    ),
    "ParticipantObjectDetail": ({"type", "value"}, set()),
    "SOPClass": ({"NumberOfInstances"}, {"UID"}),
    "StudyIDs": ({"UID"}, set()),
    **dict.fromkeys(("EventID", "EventTypeCode", "RoleIDCode", "ParticipantObjectIDTypeCode"), _CODE),
}
_CHILDREN = {
    "AuditMessage": r"EventIdentification (ActiveParticipant )+AuditSourceIdentification (ParticipantObjectIdentification )*",
    "EventIdentification": r"EventID (EventTypeCode )*",
    "ActiveParticipant": r"(RoleIDCode )*",
    "ParticipantObjectIdentification": r"ParticipantObjectIDTypeCode (ParticipantObjectName |ParticipantObjectQuery )"
    r"(ParticipantObjectDetail )*(ParticipantObjectDescription )*",
    "ParticipantObjectDescription": r"(SOPClass )*(ParticipantObjectContainsStudy )?",
    "ParticipantObjectContainsStudy": r"(StudyIDs )*",
}
"""What an element holds, in this order; the others hold no elements."""
_VALUES = {
    "EventActionCode": "C|R|U|D|E",
    "EventOutcomeIndicator": "0|4|8|12",
    "EventDateTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "UserIsRequestor": "true|false",
    "NetworkAccessPointTypeCode": "[1-5]",
    "ParticipantObjectTypeCode": "[1-4]",
    "ParticipantObjectTypeCodeRole": "[1-9]|1[0-9]|2[0-6]",
    "value": r"[A-Za-z0-9+/]*={0,2}",
}


def judged(message: bytes) -> Element:
    """The XML of a message, when header and structure are right."""
    header = _HEADER.fullmatch(message)
    assert header is not None, message[:200]
    root = ElementTree.fromstring(header[5])
    assert root.tag == "AuditMessage"
    for element in root.iter():
        required, optional = _ATTRIBUTES.get(element.tag, (set(), set()))
        assert required <= element.attrib.keys() <= required | optional, (element.tag, element.attrib)
        for name, value in element.attrib.items():
            assert re.fullmatch(_VALUES.get(name, ".+"), value), (element.tag, name, value)
        children = "".join(f"{child.tag} " for child in element)
        assert re.fullmatch(_CHILDREN.get(element.tag, ""), children), (element.tag, children)
    return root


class Collector:
    """Takes what comes, one connection after the other."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.messages: list[bytes] = []
        self.dies_after: int | None = None
        """It dies within the next connection, after so many bytes, with the rest unread."""
        self._context = context
        self._server = socket.create_server(("localhost", 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Collector":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                if self._context is None:
                    self._take(connection)
                else:
                    with self._context.wrap_socket(connection, server_side=True) as protected:
                        self._take(protected)
                        protected.unwrap()

    def _take(self, connection: socket.socket) -> None:
        if self.dies_after is not None:
            connection.recv(self.dies_after)
            self.dies_after = None
            connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # a reset, as of the dead
            raise ConnectionError
        content = b""
        while piece := connection.recv(65536):
            content += piece
        while content:
            length, _, content = content.partition(b" ")
            self.messages.append(content[: int(length)])
            assert len(self.messages[-1]) == int(length)
            content = content[int(length) :]
