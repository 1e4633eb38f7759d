"""Several media servers of a pool: which, where they are reached, and what they must hear of each other.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

UUID = sa.LargeBinary(16)


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("media_beats", sa.Column("address", sa.String(512), nullable=False, server_default=""))
    op.add_column("media_beats", sa.Column("socket", sa.String(1024), nullable=False, server_default=""))
    op.create_table(
        "pool_servers",
        sa.Column("medium", UUID, nullable=False),
        sa.Column("host", UUID, nullable=False),
        sa.PrimaryKeyConstraint("medium", "host", name=op.f("pk_pool_servers")),
    )
    op.create_table(
        "pool_logs",
        sa.Column("medium", UUID, nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("medium", name=op.f("pk_pool_logs")),
    )
    op.create_table(
        "pool_objects",
        sa.Column("medium", UUID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("epoch", sa.Integer()),
        sa.Column("condemned", sa.BigInteger()),
        sa.PrimaryKeyConstraint("medium", "name", name=op.f("pk_pool_objects")),
        sa.UniqueConstraint("medium", "number", name=op.f("uq_pool_objects_medium_number")),
    )
