"""Work of clients ends when nobody attends to it, not by the clock.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply the revision."""
    op.drop_column("client_work", "expires")
