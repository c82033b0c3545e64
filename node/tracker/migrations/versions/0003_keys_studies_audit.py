"""Keys instead of paths; a series belongs to a study, an instance to a study in a version; studies; the audit trail."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from node.tracker.audit import guard

revision = "0003"
down_revision = "0002"

UID = sa.String(length=64)
BATCH = 1000


def upgrade() -> None:
    _rebuild_instance()
    _rebuild_series()
    _make_study()
    _make_audit()
    _name_deliveries_by_key()
    _rename_in_json("deliver", "payload", "order", "request")
    _rename_in_json("match", "result", "orders", "requests")


def _rebuild_instance() -> None:
    """The file of an instance has always been instances/STUDY/SERIES/SOP.dcm in data_dir, so that tail of its path, which
    is its key, follows from the UIDs, wherever data_dir was and is."""
    old = _set_aside("instance", "sop_uid", "series_uid", "study_uid", "sop_class_uid", "transfer_syntax_uid", "sha256", "size", "source", "received_at")  # fmt: skip
    new = op.create_table(
        "instance",
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("sop_uid", UID, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("replaced_at", sa.DateTime(), nullable=True),
        sa.Column("series_uid", UID, nullable=False),
        sa.Column("sop_class_uid", UID, nullable=False),
        sa.Column("transfer_syntax_uid", UID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("study_uid", "sop_uid", "version", name=op.f("pk_instance")),
    )
    same = ("study_uid", "sop_uid", "series_uid", "sop_class_uid", "transfer_syntax_uid", "sha256", "size", "source", "received_at")  # fmt: skip
    key = sa.literal("instances/") + old.c.study_uid + "/" + old.c.series_uid + "/" + old.c.sop_uid + ".dcm"
    rows = sa.select(sa.literal(1), key, *(old.c[name] for name in same))
    op.get_bind().execute(new.insert().from_select(["version", "key", *same], rows))
    op.create_index("ix_instance_sop_uid", "instance", ["sop_uid"])
    op.create_index("ix_instance_study_uid_series_uid", "instance", ["study_uid", "series_uid"])
    op.drop_table(old.name)


def _rebuild_series() -> None:
    """Counted anew from the instances: a series that came in two studies was one row."""
    old = _set_aside("series", "series_uid", "expected")
    new = op.create_table(
        "series",
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("series_uid", UID, nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("expected", sa.Integer(), nullable=True),
        sa.Column("last_received_at", sa.DateTime(), nullable=False),
        sa.Column("modality", sa.String(length=16), nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("study_uid", "series_uid", name=op.f("pk_series")),
    )
    instance = sa.table("instance", *map(sa.column, ("study_uid", "series_uid", "received_at")))
    expected = sa.select(old.c.expected).where(old.c.series_uid == instance.c.series_uid).scalar_subquery()
    rows = sa.select(
        instance.c.study_uid, instance.c.series_uid, sa.func.count(), expected, sa.func.max(instance.c.received_at)
    ).group_by(instance.c.study_uid, instance.c.series_uid)
    names = ["study_uid", "series_uid", "instances", "expected", "last_received_at"]
    op.get_bind().execute(new.insert().from_select(names, rows))
    op.create_index("ix_series_series_uid", "series", ["series_uid"])
    op.drop_table(old.name)


def _make_study() -> None:
    """A row for each study received; what identifies the patient is read from the files later, where that is allowed."""
    new = op.create_table(
        "study",
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("first_received_at", sa.DateTime(), nullable=False),
        sa.Column("last_received_at", sa.DateTime(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("series", sa.Integer(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("keep_until", sa.DateTime(), nullable=True),
        sa.Column("purged_at", sa.DateTime(), nullable=True),
        sa.Column("purges", sa.Integer(), nullable=False),
        sa.Column("leftovers", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("labelled", sa.Boolean(), nullable=False),
        sa.Column("patient_name", sa.Text(), nullable=True),
        sa.Column("patient_id", sa.String(length=64), nullable=True),
        sa.Column("accession_number", sa.String(length=64), nullable=True),
        sa.Column("study_date", sa.String(length=8), nullable=True),
        sa.Column("modality", sa.String(length=64), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_study")),
    )
    instance = sa.table("instance", *map(sa.column, ("study_uid", "series_uid", "received_at", "size")))
    rows = sa.select(
        instance.c.study_uid, sa.func.min(instance.c.received_at), sa.func.max(instance.c.received_at), sa.literal(""),
        sa.func.count(instance.c.series_uid.distinct()), sa.func.count(), sa.func.sum(instance.c.size), sa.literal(0), sa.false(),
    ).group_by(instance.c.study_uid)  # fmt: skip
    names = ["study_uid", "first_received_at", "last_received_at", "state", "series", "instances", "size", "purges", "labelled"]  # fmt: skip
    op.get_bind().execute(new.insert().from_select(names, rows))
    for column in ("last_received_at", "state", "patient_id", "accession_number"):
        op.create_index(f"ix_study_{column}", "study", [column])


def _make_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("study_uid", UID, nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    for column in ("at", "study_uid"):
        op.create_index(f"ix_audit_{column}", "audit", [column])
    guard(op.get_bind())


def _name_deliveries_by_key() -> None:
    """The key of a derived instance is the tail of its path: derived/RESULT/NUMBER-SOP.dcm."""
    with op.batch_alter_table("delivery") as batch_op:
        batch_op.alter_column("path", new_column_name="key", existing_type=sa.Text(), existing_nullable=False)
        batch_op.add_column(sa.Column("sha256", sa.String(length=64), nullable=True))
    delivery = sa.table("delivery", *map(sa.column, ("job_id", "sop_uid", "key")))
    this = (delivery.c.job_id == sa.bindparam("of_job"), delivery.c.sop_uid == sa.bindparam("of_sop"))
    change = delivery.update().where(*this).values(key=sa.bindparam("new_key"))
    for rows in _batches(sa.select(delivery)):
        keys = [
            {"of_job": row.job_id, "of_sop": row.sop_uid, "new_key": "/".join(row.key.split("/")[-3:])} for row in rows
        ]
        op.get_bind().execute(change, keys)


def _rename_in_json(kind: str, column: str, old_name: str, new_name: str) -> None:
    """Give a member of a JSON column of the jobs of one kind its new name."""
    job = sa.table("job", sa.column("id"), sa.column("kind"), sa.column(column, sa.JSON(none_as_null=True)))
    change = (
        job.update().where(job.c.id == sa.bindparam("of_id")).values({column: sa.bindparam("new", type_=sa.JSON())})
    )
    for rows in _batches(sa.select(job.c.id, job.c[column]).where(job.c.kind == kind)):
        changed = [
            {"of_id": row.id, "new": {new_name if name == old_name else name: value for name, value in row[1].items()}}
            for row in rows
            if row[1] and old_name in row[1]
        ]
        if changed:
            op.get_bind().execute(change, changed)


def _set_aside(name: str, *columns: str) -> Any:
    """Copy a table, and drop it, so that the new one can have its names of keys and indexes."""
    connection = op.get_bind()
    connection.execute(sa.text(f"CREATE TABLE {name}_before_0003 AS SELECT {', '.join(columns)} FROM {name}"))
    op.drop_table(name)
    return sa.table(f"{name}_before_0003", *(sa.column(column, sa.String()) for column in columns))


def _batches(query: sa.Select[Any]) -> Iterator[list[Any]]:
    """The rows of a query. They are read before the first is changed."""
    rows = op.get_bind().execute(query).all()
    for start in range(0, len(rows), BATCH):
        yield list(rows[start : start + BATCH])
