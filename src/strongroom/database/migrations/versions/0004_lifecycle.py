"""Lifecycle policies and replications.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

UUID = sa.LargeBinary(16)
DIGEST = sa.LargeBinary(32)
MOMENT = sa.BigInteger()


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "replications",
        sa.Column("image", UUID, nullable=False),
        sa.Column("target", DIGEST, nullable=False),
        sa.Column("operation", sa.Integer(), nullable=False),
        sa.Column("source_domain", DIGEST, nullable=False),
        sa.Column("source_copy", sa.Integer(), nullable=False),
        sa.Column("slp", sa.String(112), nullable=False),
        sa.Column("retention_seconds", sa.BigInteger()),
        sa.Column("state", sa.String(24), nullable=False),
        sa.Column("sending", UUID),
        sa.Column("hop", sa.LargeBinary()),
        sa.Column("fence", sa.BigInteger()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.String(128)),
        sa.Column("error", sa.Text()),
        sa.Column("sent_bytes", sa.BigInteger(), nullable=False),
        sa.Column("promised", MOMENT, nullable=False),
        sa.Column("started", MOMENT),
        sa.Column("sent", MOMENT),
        sa.Column("confirmed", MOMENT),
        sa.Column("retry_at", MOMENT),
        sa.CheckConstraint(
            "state IN ('waiting', 'sending', 'sent', 'confirmed', 'failed-will-retry', 'refused')",
            name=op.f("ck_replications_state"),
        ),
        sa.PrimaryKeyConstraint("image", "target", name=op.f("pk_replications")),
        sa.UniqueConstraint("sending", name=op.f("uq_replications_sending")),
    )
    op.create_index("ix_replications_state_promised", "replications", ["state", "promised"])
    op.create_index("ix_replications_target_state", "replications", ["target", "state"])
    op.create_table(
        "slps",
        sa.Column("name", sa.String(112), nullable=False),
        sa.Column("newest", sa.Integer(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("changed", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_slps")),
    )
    op.create_table(
        "slp_versions",
        sa.Column("name", sa.String(112), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("made", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["name"], ["slps.name"], name=op.f("fk_slp_versions_name")),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_slp_versions")),
    )
    op.create_table(
        "image_lifecycles",
        sa.Column("image", UUID, nullable=False),
        sa.Column("name", sa.String(112), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("wanted_seconds", sa.BigInteger()),
        sa.Column("began", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["slp_versions.name", "slp_versions.version"],
            name=op.f("fk_image_lifecycles_name_version"),
        ),
        sa.PrimaryKeyConstraint("image", name=op.f("pk_image_lifecycles")),
    )
