"""Work that clients drive, and what media servers said last.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

UUID = sa.LargeBinary(16)
DIGEST = sa.LargeBinary(32)
MOMENT = sa.BigInteger()


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "client_work",
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("host", UUID, nullable=False),
        sa.Column("medium", UUID, nullable=False),
        sa.Column("image", UUID, nullable=False),
        sa.Column("copy", sa.Integer(), nullable=False),
        sa.Column("session", UUID),
        sa.Column("key_group", UUID, nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("expires", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_client_work")),
        sa.UniqueConstraint("digest", name=op.f("uq_client_work_digest")),
    )
    op.create_table(
        "media_beats",
        sa.Column("host", UUID, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("pools", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_media_beats")),
    )
    op.create_table(
        "held_certificates",
        sa.Column("host", UUID, nullable=False),
        sa.Column("domain", DIGEST, nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("host", "domain", name=op.f("pk_held_certificates")),
    )
