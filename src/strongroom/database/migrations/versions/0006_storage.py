"""Storage credentials, storage targets, receiving sessions.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

UUID = sa.LargeBinary(16)
DIGEST = sa.LargeBinary(32)
MOMENT = sa.BigInteger()


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "storage_credentials",
        sa.Column("id", UUID, nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("medium", UUID, nullable=False),
        sa.Column("sender", DIGEST, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("used", MOMENT),
        sa.Column("revoked", MOMENT),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_storage_credentials")),
        sa.UniqueConstraint("name", name=op.f("uq_storage_credentials_name")),
    )
    op.create_table(
        "storage_targets",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("domain", DIGEST, nullable=False),
        sa.Column("server", sa.String(128), nullable=False),
        sa.Column("medium", UUID, nullable=False),
        sa.Column("addresses", sa.Text(), nullable=False),
        sa.Column("credential", UUID, nullable=False),
        sa.Column("added", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_storage_targets")),
        sa.UniqueConstraint("domain", name=op.f("uq_storage_targets_domain")),
    )
    op.create_table(
        "receiving_sessions",
        sa.Column("session", UUID, nullable=False),
        sa.Column("image", UUID, nullable=False),
        sa.Column("sender", DIGEST, nullable=False),
        sa.Column("sending", UUID, nullable=False),
        sa.Column("medium", UUID, nullable=False),
        sa.Column("copy", sa.Integer(), nullable=False),
        sa.Column("slp", sa.String(112), nullable=False),
        sa.Column("slp_version", sa.Integer(), nullable=False),
        sa.Column("retention_seconds", sa.BigInteger(), nullable=False),
        sa.Column("hop", sa.LargeBinary(), nullable=False),
        sa.Column("copy_header", sa.LargeBinary(), nullable=False),
        sa.Column("began", MOMENT, nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("frame_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session", name=op.f("pk_receiving_sessions")),
        sa.UniqueConstraint("image", "sender", name=op.f("uq_receiving_sessions_image_sender")),
    )
