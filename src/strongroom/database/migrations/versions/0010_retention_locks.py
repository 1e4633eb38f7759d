"""How pools are locked, and copies whose lock was lifted.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Apply the revision."""
    # defaults for the rows that are there: none of them was ever locked
    op.add_column("media", sa.Column("lock_mode", sa.String(16), nullable=False, server_default="none"))
    op.add_column("media", sa.Column("lock_clock_ns", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("copies", sa.Column("lock_lifted", sa.Boolean(), nullable=False, server_default=sa.false()))
