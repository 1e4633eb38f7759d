"""The clock that expiry goes by, and whether it has stopped.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "expiry_guard",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seen_ns", sa.BigInteger(), nullable=False),
        sa.Column("stopped", sa.String(256)),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_expiry_guard")),
    )
