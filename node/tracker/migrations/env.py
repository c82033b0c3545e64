"""Alembic runs inside `Database.upgrade`, on its connection and in its transaction."""

from alembic import context

from node.tracker.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
context.run_migrations()
