"""What Alembic runs around the revisions: the transaction and its connection are the caller's."""

from __future__ import annotations

from alembic import context

from strongroom.database.metadata import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
