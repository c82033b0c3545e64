"""Since when a job fails, and how many workers have died of it; jobs by what they were made of; which tracker this is."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("first_failed_at", sa.DateTime(), nullable=True))
        batch_op.add_column(sa.Column("deaths", sa.Integer(), nullable=False, server_default="0"))
        batch_op.create_index("ix_job_parent_id", ["parent_id"])
        batch_op.create_index("ix_job_due_at", ["kind", "state", "destination", "next_attempt_at"])
        batch_op.create_index("ix_job_state", ["state"])
    op.create_table(
        "identity",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity")),
    )
