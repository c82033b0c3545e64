"""A row of the audit trail as a DICOM audit message (PS3.15 A.5.1). It names no patient; the patient's ID only where [audit]
patient_id asks for it."""

import base64
import json
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from node.config.audit import AuditSettings
from node.tracker.audit import Action
from node.tracker.views import AuditRow, iso

DCM = "DCM"
OWN = "99DIFFMSR"
"""Codes of what the standard has no event for."""

_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND: what was looked for without a study in mind."""


@dataclass(frozen=True)
class CodedValue:
    value: str
    meaning: str
    scheme: str = DCM

    def under(self, parent: Element, name: str) -> None:
        attributes = {"csd-code": self.value, "codeSystemName": self.scheme, "originalText": self.meaning}
        SubElement(parent, name, attributes)


@dataclass(frozen=True)
class AuditEvent:
    """What the standard calls it (CID 400), what kind of it (CID 401), and whether it creates, reads, updates, deletes or
    executes."""

    code: CodedValue
    does: str
    kind: CodedValue | None = None


_TRANSFERRED = CodedValue("110104", "DICOM Instances Transferred")
_ACCESSED = CodedValue("110103", "DICOM Instances Accessed")
_ALERT = CodedValue("110113", "Security Alert")
_ACTIVITY = CodedValue("110100", "Application Activity")
_LOGIN = CodedValue("110114", "User Authentication")
_SOURCE, _DESTINATION = CodedValue("110153", "Source Role ID"), CodedValue("110152", "Destination Role ID")

_EVENTS = {
    Action.ASSOCIATION: AuditEvent(CodedValue("association", "DICOM Association Ended", OWN), "E"),
    Action.STORED: AuditEvent(_TRANSFERRED, "C"),
    Action.REFUSED: AuditEvent(_TRANSFERRED, "C"),
    Action.REPAIRED: AuditEvent(_TRANSFERRED, "C"),
    Action.CORRECTED: AuditEvent(_TRANSFERRED, "U"),
    Action.DROPPED: AuditEvent(_ACCESSED, "D"),
    Action.SENT: AuditEvent(_TRANSFERRED, "C"),
    Action.VIEWED: AuditEvent(_ACCESSED, "R"),
    Action.PURGED: AuditEvent(CodedValue("110105", "DICOM Study Deleted"), "D"),
    Action.CONFIGURED: AuditEvent(_ACTIVITY, "E", CodedValue("110120", "Application Start")),
    Action.STOPPED: AuditEvent(_ACTIVITY, "E", CodedValue("110121", "Application Stop")),
    Action.RELOADED: AuditEvent(_ALERT, "E", CodedValue("110131", "Software Configuration")),
    Action.ADMINISTERED: AuditEvent(CodedValue("administered", "Work Administered", OWN), "E"),
    Action.LOGGED_IN: AuditEvent(_LOGIN, "E", CodedValue("110122", "Login")),
    Action.LOGGED_OUT: AuditEvent(_LOGIN, "E", CodedValue("110123", "Logout")),
    Action.EXPIRED: AuditEvent(CodedValue("expired", "Audit Trail Expired", OWN), "D"),
}
_REJECTED = AuditEvent(_ALERT, "E", CodedValue("110126", "Node Authentication"))
_SEARCHED = AuditEvent(CodedValue("110112", "Query"), "E")

_BY_PEERS = {Action.ASSOCIATION, Action.STORED, Action.REFUSED, Action.REPAIRED, Action.CORRECTED}


def is_failure(row: AuditRow) -> bool:
    """Whether something was tried and did not succeed."""
    rejected = row.action == Action.ASSOCIATION and "rejected" in row.details
    return row.action == Action.REFUSED or rejected or row.details.get("accepted") is False


def audit_message(row: AuditRow, settings: AuditSettings, ae_title: str, host: str, patient_id: str | None) -> bytes:
    """The message in XML. `host` is the name of this host."""
    message = Element("AuditMessage")
    _identify(message, row)
    _participants(message, row, ae_title, host)
    source = {"AuditSourceID": row.node}
    if settings.enterprise_site is not None:
        source["AuditEnterpriseSiteID"] = settings.enterprise_site
    SubElement(message, "AuditSourceIdentification", source)
    _objects(message, row, patient_id if settings.patient_id else None)
    content: bytes = ElementTree.tostring(message, encoding="utf-8", xml_declaration=True)
    return content


def _event(row: AuditRow) -> AuditEvent:
    if row.action == Action.ASSOCIATION and "rejected" in row.details:
        return _REJECTED
    if row.action == Action.VIEWED and row.study_uid is None:
        return _SEARCHED
    return _EVENTS[Action(row.action)]


def _identify(message: Element, row: AuditRow) -> None:
    event = _event(row)
    outcome = "4" if is_failure(row) else "0"
    attributes = {"EventActionCode": event.does, "EventDateTime": iso(row.at), "EventOutcomeIndicator": outcome}
    identification = SubElement(message, "EventIdentification", attributes)
    event.code.under(identification, "EventID")
    if event.kind is not None:
        event.kind.under(identification, "EventTypeCode")


def _participants(message: Element, row: AuditRow, ae_title: str, host: str) -> None:
    """Who did it, and the node. Of two that exchange instances, which was the source."""
    if row.action in _BY_PEERS:
        roles = (_SOURCE, _DESTINATION) if row.action != Action.ASSOCIATION else (None, None)
        _participant(message, row.actor, True, roles[0], f"AETITLES={row.actor}", row.details.get("host"))
        _participant(message, row.node, False, roles[1], f"AETITLES={ae_title}", host)
    elif row.action == Action.SENT:
        _participant(message, row.node, True, _SOURCE, f"AETITLES={ae_title}", host)
        _participant(message, str(row.details.get("destination", "")), False, _DESTINATION)
    elif row.action in (Action.CONFIGURED, Action.STOPPED, Action.RELOADED):
        _participant(message, row.node, False, CodedValue("110150", "Application"), f"AETITLES={ae_title}", host)
        _participant(message, row.actor, True, CodedValue("110151", "Application Launcher"))
    else:
        _participant(message, row.actor, True, None, None, row.details.get("address"))
        _participant(message, row.node, False, None, f"AETITLES={ae_title}", host)


def _participant(
    message: Element,
    user: str,
    requestor: bool,
    role: CodedValue | None = None,
    also: str | None = None,
    address: object = None,
) -> None:
    attributes = {"UserID": user, "UserIsRequestor": "true" if requestor else "false"}
    if also is not None:
        attributes["AlternativeUserID"] = also
    if isinstance(address, str):
        numeric = ":" in address or address.replace(".", "").isdigit()
        attributes |= {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": "2" if numeric else "1"}
    participant = SubElement(message, "ActiveParticipant", attributes)
    if role is not None:
        role.under(participant, "RoleIDCode")


def _objects(message: Element, row: AuditRow, patient_id: str | None) -> None:
    """The study with all details of the row, or the node itself where there is no study; and the patient."""
    details = {name: value for name, value in row.details.items() if value is not None}
    if row.study_uid is not None:
        subject = _object(message, row.study_uid, "2", "3", CodedValue("110180", "Study Instance UID"))
        SubElement(subject, "ParticipantObjectName").text = row.study_uid
        _values(subject, details)
        description = SubElement(subject, "ParticipantObjectDescription")
        if isinstance(sop_class := details.get("sop_class"), str):
            SubElement(description, "SOPClass", {"UID": sop_class, "NumberOfInstances": "1"})
        contains = SubElement(description, "ParticipantObjectContainsStudy")
        SubElement(contains, "StudyIDs", {"UID": row.study_uid})
    elif row.action == Action.VIEWED:
        subject = _object(message, _FIND, "2", "24", CodedValue("110181", "SOP Class UID"))
        SubElement(subject, "ParticipantObjectQuery").text = _base64(json.dumps(details))
    else:
        subject = _object(message, row.node, "2", "13", CodedValue("110182", "Node ID"))
        SubElement(subject, "ParticipantObjectName").text = row.node
        _values(subject, details)
    if patient_id and row.study_uid is not None:
        person = _object(message, patient_id, "1", "1", CodedValue("2", "Patient Number", "RFC-3881"))
        SubElement(person, "ParticipantObjectName").text = patient_id


def _object(message: Element, name: str, kind: str, role: str, code: CodedValue) -> Element:
    attributes = {
        "ParticipantObjectID": name,
        "ParticipantObjectTypeCode": kind,
        "ParticipantObjectTypeCodeRole": role,
    }
    made = SubElement(message, "ParticipantObjectIdentification", attributes)
    code.under(made, "ParticipantObjectIDTypeCode")
    return made


def _values(subject: Element, details: dict[str, object]) -> None:
    for name, value in details.items():
        words = value if isinstance(value, str) else json.dumps(value)
        SubElement(subject, "ParticipantObjectDetail", {"type": name, "value": _base64(words)})


def _base64(words: str) -> str:
    return base64.b64encode(words.encode()).decode()
