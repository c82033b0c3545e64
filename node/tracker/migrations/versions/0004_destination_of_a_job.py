"""The destination of a deliver job in a column of its own, by which its worker finds it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("destination", sa.String(length=128), nullable=True))
    job = sa.table("job", sa.column("id"), sa.column("kind"), sa.column("payload", sa.JSON), sa.column("destination"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(job.c.id, job.c.payload).where(job.c.kind == "deliver")).all():
        name = row.payload.get("destination")
        connection.execute(job.update().where(job.c.id == row.id).values(destination=name))
