"""Changes of a series besides instances that are added, conflicts, and open associations."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("series", schema=None) as batch_op:
        for name in ("changes", "conflicts"):
            batch_op.add_column(sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "open_association",
        sa.Column("association", sa.String(length=36), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("opened_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("association", "study_uid", name=op.f("pk_open_association")),
    )
    op.create_index("ix_open_association_study_uid", "open_association", ["study_uid"])
