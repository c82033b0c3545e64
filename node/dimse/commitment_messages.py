"""Storage Commitment Push Model (PS3.4 annex J): the content of its data sets, whoever sends them."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.events import Event
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from node.dicom.uid import is_uid
from node.dimse.status import FAILURE_REASON, EventStatus, words
from node.errors import NodeError

log = structlog.get_logger()

PUSH_MODEL = str(StorageCommitmentPushModel)
CONTEXTS = [(PUSH_MODEL, str(syntax)) for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)]
WELL_KNOWN_INSTANCE = str(StorageCommitmentPushModelInstance)
REQUEST = 1
"""The action type of an N-ACTION (PS3.4 J.3.2)."""
ALL_COMMITTED, SOME_FAILED = 1, 2
"""The event types of an N-EVENT-REPORT (PS3.4 J.3.3)."""

MAX_INSTANCES = 100_000
"""Of one transaction. A request that names more is damaged, or an attack."""


@dataclass(frozen=True)
class ReferencedInstance:
    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True)
class Report:
    """Which instances of a transaction are committed and which are not, with the failure reason of each."""

    transaction_uid: str
    committed: Sequence[ReferencedInstance]
    failed: Mapping[ReferencedInstance, int] = field(default_factory=dict)

    @property
    def event_type(self) -> int:
        return SOME_FAILED if self.failed else ALL_COMMITTED

    @property
    def committed_uids(self) -> set[str]:
        return {instance.sop_uid for instance in self.committed}

    @property
    def failed_uids(self) -> dict[str, str]:
        """SOP instance UIDs, each with its reason in words."""
        return {instance.sop_uid: words(FAILURE_REASON, reason) for instance, reason in self.failed.items()}


def take_report(event: Event, record: Callable[[Report], bool]) -> tuple[EventStatus, None]:
    """The answer to an N-EVENT-REPORT, in the form that pynetdicom expects. `record` records the report and returns whether
    its transaction is one of ours."""
    logger = log.bind(peer=event.assoc.remote["ae_title"].strip())
    if event.event_type not in (ALL_COMMITTED, SOME_FAILED):
        return EventStatus.NO_SUCH_EVENT, None
    try:
        contents = read_report(event.event_information)
    except Exception as error:  # pydicom raises nearly anything on a damaged data set
        logger.warning("commitment.report_malformed", error=type(error).__name__)
        return EventStatus.INVALID_ARGUMENT, None
    logger = logger.bind(transaction=contents.transaction_uid)
    try:
        known = record(contents)
    except NodeError as error:
        logger.error("commitment.report_not_recorded", reason=str(error))
        return EventStatus.PROCESSING_FAILURE, None
    if not known:
        logger.warning("commitment.unknown_transaction")
        return EventStatus.INVALID_ARGUMENT, None
    level = logging.WARNING if contents.failed else logging.INFO
    logger.log(level, "commitment.reported", committed=len(contents.committed), failed=len(contents.failed))
    return EventStatus.SUCCESS, None


def request(transaction_uid: str, instances: Iterable[ReferencedInstance]) -> Dataset:
    """The action information of a request (PS3.4 table J.3-1)."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = [_item(instance) for instance in instances]
    return ds


def read_request(ds: Dataset) -> tuple[str, list[ReferencedInstance]]:
    """(transaction UID, instances) of an action information; ValueError when it is malformed or empty."""
    instances = _instances(ds, "ReferencedSOPSequence")
    if not instances:
        raise ValueError("no instances")
    return _transaction(ds), instances


def report(contents: Report) -> Dataset:
    """The event information of a report (PS3.4 table J.3-2)."""
    ds = Dataset()
    ds.TransactionUID = contents.transaction_uid
    if contents.committed:
        ds.ReferencedSOPSequence = [_item(instance) for instance in contents.committed]
    if contents.failed:
        ds.FailedSOPSequence = [_item(instance) for instance in contents.failed]
        for item, reason in zip(ds.FailedSOPSequence, contents.failed.values(), strict=True):
            item.FailureReason = int(reason)
    return ds


def read_report(ds: Dataset) -> Report:
    """The report in an event information; ValueError when it is malformed."""
    failed = _instances(ds, "FailedSOPSequence")
    reasons = [int(item.get("FailureReason") or 0x0110) for item in ds.get("FailedSOPSequence") or []]
    return Report(_transaction(ds), _instances(ds, "ReferencedSOPSequence"), dict(zip(failed, reasons, strict=True)))


def _item(instance: ReferencedInstance) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.sop_class_uid, instance.sop_uid
    return item


def _instances(ds: Dataset, keyword: str) -> list[ReferencedInstance]:
    items = ds.get(keyword) or []
    if len(items) > MAX_INSTANCES:
        raise ValueError("too many instances")
    found = [
        ReferencedInstance(str(item.get("ReferencedSOPClassUID", "")), str(item.get("ReferencedSOPInstanceUID", "")))
        for item in items
    ]
    if not all(is_uid(instance.sop_class_uid) and is_uid(instance.sop_uid) for instance in found):
        raise ValueError("an instance without well-formed UIDs")
    return found


def _transaction(ds: Dataset) -> str:
    uid = str(ds.get("TransactionUID", ""))
    if not is_uid(uid):
        raise ValueError("no well-formed transaction UID")
    return uid
