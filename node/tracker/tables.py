"""The tables. `migrations/` creates them; a test holds the two together. All times are UTC."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from node.tracker.states import Kind, State


class UTCDateTime(TypeDecorator[datetime]):
    """Aware datetimes in Python, UTC without offset in the database: SQLite keeps no offset, so neither does the other."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def _values(enum: type[Kind] | type[State]) -> Enum:
    """Stored as the words people read, in a plain text column."""
    return Enum(enum, native_enum=False, length=16, values_callable=lambda members: [m.value for m in members])


UID = String(64)
RowId = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only an INTEGER primary key


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UTCDateTime,
        dict[str, Any]: JSON,
        Kind: _values(Kind),
        State: _values(State),
    }


class TrackerIdentity(Base):
    """Which tracker this is, see `identity.py`. One row."""

    __tablename__ = "identity"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)


class Study(Base):
    """A study: what lists, search and retention ask for. It stays when the study is purged."""

    __tablename__ = "study"

    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    first_received_at: Mapped[datetime]
    last_received_at: Mapped[datetime] = mapped_column(index=True)
    state: Mapped[str] = mapped_column(String(32), index=True)
    """In words, see `studies.py`."""
    series: Mapped[int] = mapped_column(default=0)
    instances: Mapped[int] = mapped_column(default=0)
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    """Bytes of the instances received."""
    keep_until: Mapped[datetime | None]
    """Not to be purged before; None: as the configuration says."""
    purged_at: Mapped[datetime | None]
    """When all of it but this row was removed; None again when it is sent again."""
    purges: Mapped[int] = mapped_column(default=0)
    """How often it was purged. An arrival that began before a purge and ends after it is turned away by this."""
    leftovers: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """What a purge still has to remove from the archive; None when no purge is under way."""
    labelled: Mapped[bool] = mapped_column(default=False)
    """Whether the columns below, and those of its series, were filled from a header. [node] index_patient forbids it."""
    patient_name: Mapped[str | None] = mapped_column(Text)
    patient_id: Mapped[str | None] = mapped_column(String(64), index=True)
    accession_number: Mapped[str | None] = mapped_column(String(64), index=True)
    study_date: Mapped[str | None] = mapped_column(String(8))
    """YYYYMMDD, as DICOM has it."""
    modality: Mapped[str | None] = mapped_column(String(64))
    """Of every series received, separated by a backslash."""
    description: Mapped[str | None] = mapped_column(Text)


class Series(Base):
    """A series as received so far. A PACS may copy one into another study and keep its UID: then it is two."""

    __tablename__ = "series"

    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    series_uid: Mapped[str] = mapped_column(UID, primary_key=True, index=True)
    instances: Mapped[int]
    """How many instances are stored."""
    changes: Mapped[int] = mapped_column(default=0, server_default="0")
    """Raised by whatever changes the series besides an instance that is added: a correction, or instances that are dropped."""
    conflicts: Mapped[int] = mapped_column(default=0, server_default="0")
    """How often an instance came again with other pixels under the same UID, and was refused."""
    expected: Mapped[int | None]
    """ImagesInAcquisition (0020,1002), when the scanner says it."""
    last_received_at: Mapped[datetime]
    modality: Mapped[str | None] = mapped_column(String(16))
    """This and the next two are empty where [node] index_patient forbids them."""
    number: Mapped[int | None]
    description: Mapped[str | None] = mapped_column(Text)

    @property
    def complete(self) -> bool:
        """Whether as many instances are here as the scanner said. When there are more, the series has more acquisitions
        than the one that was counted, and its end is unknown."""
        return self.instances == self.expected

    @property
    def revision(self) -> int:
        """Rises with every change of the series, and never falls."""
        return self.instances + self.changes


class Instance(Base):
    """A SOP instance that was acknowledged. A study has one of each SOP instance UID, in its latest version."""

    __tablename__ = "instance"
    __table_args__ = (Index("ix_instance_study_uid_series_uid", "study_uid", "series_uid"),)

    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    sop_uid: Mapped[str] = mapped_column(UID, primary_key=True, index=True)
    version: Mapped[int] = mapped_column(primary_key=True, default=1)
    """From 1; a corrected instance of the same UID is the next."""
    replaced_at: Mapped[datetime | None]
    """When a later version took its place, or its series was dropped; None: this is the one in use."""
    series_uid: Mapped[str] = mapped_column(UID)
    sop_class_uid: Mapped[str] = mapped_column(UID)
    transfer_syntax_uid: Mapped[str] = mapped_column(UID)
    key: Mapped[str] = mapped_column(Text)
    """In the archive, see `node.archive.layout`."""
    sha256: Mapped[str] = mapped_column(String(64))
    """Of the data set as received, without preamble and file meta information."""
    size: Mapped[int]
    source: Mapped[str] = mapped_column(String(16))
    """Calling AE title."""
    received_at: Mapped[datetime]


class Job(Base):
    """A unit of work for one stage; see `states.py`."""

    __tablename__ = "job"
    __table_args__ = (
        Index("ix_job_due", "kind", "state", "next_attempt_at"),
        Index("ix_job_due_at", "kind", "state", "destination", "next_attempt_at"),
        Index("ix_job_recent", "kind", "state", "updated_at"),
        Index("ix_job_state", "state"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=True)
    kind: Mapped[Kind]
    key: Mapped[str] = mapped_column(String(160), unique=True)
    """Names the work itself: asking for the same work twice finds the job there is."""
    state: Mapped[State]
    prior_state: Mapped[State | None]
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    target_series_uid: Mapped[str | None] = mapped_column(UID, index=True)
    reference_series_uid: Mapped[str | None] = mapped_column(UID)
    parent_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("job.id"), index=True)
    """The job that led to this one: a derive job's infer job, a deliver job's derive job."""
    payload: Mapped[dict[str, Any]]
    """What to do: a PairRequest (infer), DeriveRequest, DeliverRequest or CommitmentRequest."""
    destination: Mapped[str | None] = mapped_column(String(128))
    """Name of the destination of a deliver job."""
    result: Mapped[dict[str, Any] | None]
    """What came of it: a verdict (match), figures (infer)."""
    revision: Mapped[int] = mapped_column(default=0)
    """What the work is based on: how often an instance of the study came or changed (match), or the revisions of the target
    and reference series together (the others). When it has risen, a match runs again, and the others wait for what it
    says."""
    fence: Mapped[int] = mapped_column(default=0)
    """Raised by every claim: only the worker that holds the latest may change the job."""
    attempts: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    first_failed_at: Mapped[datetime | None]
    """When the first of its attempts failed; None while none has, since it was last asked for."""
    deaths: Mapped[int] = mapped_column(default=0, server_default="0")
    """How many workers in a row have died while they held it."""
    next_attempt_at: Mapped[datetime | None]
    worker: Mapped[str | None] = mapped_column(String(128))
    lease_expires_at: Mapped[datetime | None] = mapped_column(index=True)
    progress: Mapped[int] = mapped_column(default=0)
    progress_total: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Delivery(Base):
    """One derived instance on its way to one destination."""

    __tablename__ = "delivery"

    job_id: Mapped[int] = mapped_column(RowId, ForeignKey("job.id"), primary_key=True)
    sop_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    key: Mapped[str] = mapped_column(Text)
    """Of the derived instance in the archive."""
    sha256: Mapped[str | None] = mapped_column(String(64))
    """Of its file; None where a version without digests made it."""
    accepted: Mapped[bool] = mapped_column(default=False)
    status: Mapped[str | None] = mapped_column(Text)
    """The peer's last answer, in hex and words."""
    committed: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether the destination has reported its storage commitment."""
    updated_at: Mapped[datetime]


class Commitment(Base):
    """A storage commitment transaction (PS3.4 annex J) that was requested from a destination for a delivery."""

    __tablename__ = "commitment"

    transaction_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    job_id: Mapped[int] = mapped_column(RowId, ForeignKey("job.id"), index=True)
    asked_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    """When the destination's N-EVENT-REPORT came, on whatever association."""


class OpenAssociation(Base):
    """An association that has brought instances of a study and is still open."""

    __tablename__ = "open_association"

    association: Mapped[str] = mapped_column(String(36), primary_key=True)
    """A UUID."""
    study_uid: Mapped[str] = mapped_column(UID, primary_key=True, index=True)
    node: Mapped[str] = mapped_column(String(64))
    """Which node holds it."""
    opened_at: Mapped[datetime]


class Event(Base):
    """A change of state: who, when, why. Written in the transaction that makes the change; never altered."""

    __tablename__ = "event"

    id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=True)
    job_id: Mapped[int] = mapped_column(RowId, ForeignKey("job.id"), index=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(128))
    from_state: Mapped[State | None]
    to_state: Mapped[State]
    why: Mapped[str] = mapped_column(Text)


class Audit(Base):
    """What was done with whose data, and with the node: who, when, what. It needs no job, and stays when the study is
    purged. The database itself refuses to change or remove a row, see `audit.py`. Nothing in it identifies a
    patient."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    node: Mapped[str] = mapped_column(String(64))
    """Which node wrote it."""
    actor: Mapped[str] = mapped_column(String(128))
    """An AE title, a user, a stage."""
    action: Mapped[str] = mapped_column(String(32))
    study_uid: Mapped[str | None] = mapped_column(UID, index=True)
    details: Mapped[dict[str, Any]]


class Duty(Base):
    """What only one host may do at a time, see `duties.py`."""

    __tablename__ = "duty"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    """The node that does it."""
    until: Mapped[datetime]
    """Then another node may take it over."""
    position: Mapped[int] = mapped_column(BigInteger, default=0)
    """How far it is, where it works through rows: the last one that is done."""


class Pause(Base):
    """Something that an administrator has paused, see `pauses.py`."""

    __tablename__ = "pause"

    what: Mapped[str] = mapped_column(String(160), primary_key=True)
    since: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(128))


class Echo(Base):
    """The last C-ECHO to a destination."""

    __tablename__ = "echo"

    destination: Mapped[str] = mapped_column(String(128), primary_key=True)
    at: Mapped[datetime]
    answered: Mapped[bool]
    sentence: Mapped[str] = mapped_column(Text)
    """What it answered, or why it did not."""
