"""What is paused, the last C-ECHO to each destination, and the index that lists and the dashboard go by."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "pause",
        sa.Column("what", sa.String(length=160), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("what", name=op.f("pk_pause")),
    )
    op.create_table(
        "echo",
        sa.Column("destination", sa.String(length=128), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("answered", sa.Boolean(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_echo")),
    )
    op.create_index("ix_job_recent", "job", ["kind", "state", "updated_at"])
