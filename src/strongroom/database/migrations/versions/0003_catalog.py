"""The catalog: media, images, copies, journal, receipts.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

UUID = sa.LargeBinary(16)
DIGEST = sa.LargeBinary(32)
MOMENT = sa.BigInteger()
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "copy_facts",
        sa.Column("image", UUID, nullable=False),
        sa.Column("domain", DIGEST, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("expiry_set", sa.Boolean(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger()),
        sa.Column("locked_until_ns", sa.BigInteger(), nullable=False),
        sa.Column("tombstone", sa.Boolean(), nullable=False),
        sa.Column("unknown_kind", sa.String(32)),
        sa.PrimaryKeyConstraint("image", "domain", "number", name=op.f("pk_copy_facts")),
    )
    op.create_table(
        "copy_holds",
        sa.Column("image", UUID, nullable=False),
        sa.Column("domain", DIGEST, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("hold", UUID, nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("image", "domain", "number", "hold", name=op.f("pk_copy_holds")),
    )
    op.create_table(
        "images",
        sa.Column("image", UUID, nullable=False),
        sa.Column("salt", UUID, nullable=False),
        sa.Column("domain", DIGEST, nullable=False),
        sa.Column("backup_id", sa.String(300), nullable=False),
        sa.Column("client", sa.String(255), nullable=False),
        sa.Column("client_host", UUID, nullable=False),
        sa.Column("policy", sa.String(128), nullable=False),
        sa.Column("schedule", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("started_ns", sa.BigInteger(), nullable=False),
        sa.Column("ended_ns", sa.BigInteger(), nullable=False),
        sa.Column("slp", sa.String(112), nullable=False),
        sa.Column("slp_version", sa.BigInteger(), nullable=False),
        sa.Column("data_class", sa.String(64), nullable=False),
        sa.Column("retention_seconds", sa.BigInteger()),
        sa.Column("key_group", UUID, nullable=False),
        sa.Column("cipher", sa.BigInteger(), nullable=False),
        sa.Column("entries_root", DIGEST),
        sa.Column("entries_segments", sa.BigInteger()),
        sa.Column("entries_bytes", sa.BigInteger()),
        sa.Column("payload_root", DIGEST),
        sa.Column("payload_segments", sa.BigInteger()),
        sa.Column("payload_bytes", sa.BigInteger()),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("content_bytes", sa.BigInteger(), nullable=False),
        sa.Column("problems", sa.BigInteger(), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("image", name=op.f("pk_images")),
    )
    op.create_index(op.f("ix_images_backup_id"), "images", ["backup_id"])
    op.create_index("ix_images_client_started_ns", "images", ["client", "started_ns"])
    op.create_index("ix_images_started_ns_image", "images", ["started_ns", "image"])
    op.create_table(
        "media",
        sa.Column("medium", UUID, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("label", sa.String(128), nullable=False),
        sa.Column("domain", DIGEST, nullable=False),
        sa.Column("host", UUID),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("journal_sequence", sa.BigInteger(), nullable=False),
        sa.Column("journal_digest", DIGEST, nullable=False),
        sa.Column("journal_incarnation", sa.BigInteger(), nullable=False),
        sa.Column("journal_written", sa.BigInteger(), nullable=False),
        sa.Column("journal_complete", sa.Boolean(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("closed_epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("medium", name=op.f("pk_media")),
    )
    op.create_table(
        "receipts",
        sa.Column("sending", UUID, nullable=False),
        sa.Column("image", UUID, nullable=False),
        sa.Column("target", DIGEST, nullable=False),
        sa.Column("receipt", UUID, nullable=False),
        sa.Column("medium", UUID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("slp", sa.String(112), nullable=False),
        sa.Column("received_ns", sa.BigInteger(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("object", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sending", name=op.f("pk_receipts")),
    )
    op.create_index(op.f("ix_receipts_image"), "receipts", ["image"])
    op.create_table(
        "sent_hops",
        sa.Column("sending", UUID, nullable=False),
        sa.Column("image", UUID, nullable=False),
        sa.Column("target", DIGEST, nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("object", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sending", name=op.f("pk_sent_hops")),
    )
    op.create_index(op.f("ix_sent_hops_image"), "sent_hops", ["image"])
    op.create_table(
        "copies",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("image", UUID, nullable=False),
        sa.Column("domain", DIGEST, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("medium", UUID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("readability", sa.String(16), nullable=False),
        sa.Column("written_ns", sa.BigInteger()),
        sa.Column("expires_ns", sa.BigInteger()),
        sa.Column("hold", sa.Boolean(), nullable=False),
        sa.Column("locked_until_ns", sa.BigInteger(), nullable=False),
        sa.Column("encrypted", sa.Boolean(), nullable=False),
        sa.Column("cipher", sa.BigInteger(), nullable=False),
        sa.Column("slp", sa.String(448), nullable=False),
        sa.Column("slp_version", sa.BigInteger(), nullable=False),
        sa.Column("source_copy", sa.Integer(), nullable=False),
        sa.Column("entries_root", DIGEST),
        sa.Column("payload_root", DIGEST),
        sa.Column("journal_medium", UUID, nullable=False),
        sa.Column("journal_named", sa.BigInteger(), nullable=False),
        sa.Column("came_by", sa.String(16), nullable=False),
        sa.Column("expiry_blocked", sa.String(16)),
        sa.CheckConstraint(
            "came_by IN ('backup', 'replication', 'import', 'duplication')", name=op.f("ck_copies_came_by")
        ),
        sa.CheckConstraint(
            "expiry_blocked IN ('unconfirmed', 'unknown-record')", name=op.f("ck_copies_expiry_blocked")
        ),
        sa.CheckConstraint(
            "readability IN ('readable', 'waiting-for-key', 'not-verified')", name=op.f("ck_copies_readability")
        ),
        sa.CheckConstraint(
            "state IN ('writing', 'committing', 'incomplete', 'complete', 'expired')", name=op.f("ck_copies_state")
        ),
        sa.ForeignKeyConstraint(["medium"], ["media.medium"], name=op.f("fk_copies_medium")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_copies")),
        sa.UniqueConstraint("image", "domain", "number", name=op.f("uq_copies_image_domain_number")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_copies_journal_medium", "copies", ["journal_medium"])
    op.create_index("ix_copies_medium_state", "copies", ["medium", "state"])
    op.create_index("ix_copies_readability", "copies", ["readability"])
    op.create_index("ix_copies_state_expires_ns", "copies", ["state", "expires_ns"])
    op.create_table(
        "file_lists",
        sa.Column("image", UUID, nullable=False),
        sa.Column("salt", UUID, nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("made", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["image"], ["images.image"], name=op.f("fk_file_lists_image")),
        sa.PrimaryKeyConstraint("image", name=op.f("pk_file_lists")),
    )
    op.create_table(
        "journal_batches",
        sa.Column("medium", UUID, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["medium"], ["media.medium"], name=op.f("fk_journal_batches_medium")),
        sa.PrimaryKeyConstraint("medium", "sequence", name=op.f("pk_journal_batches")),
    )
    op.create_table(
        "journal_outbox",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("medium", UUID, nullable=False),
        sa.Column("image", UUID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("until_ns", sa.BigInteger()),
        sa.Column("hold", UUID),
        sa.Column("object", sa.LargeBinary()),
        sa.Column("reason", sa.String(256), nullable=False),
        sa.ForeignKeyConstraint(["medium"], ["media.medium"], name=op.f("fk_journal_outbox_medium")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_journal_outbox")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_journal_outbox_medium_id", "journal_outbox", ["medium", "id"])
    op.create_table(
        "copy_key_pages",
        sa.Column("copy_id", ROW_ID, nullable=False),
        sa.Column("page", DIGEST, nullable=False),
        sa.ForeignKeyConstraint(["copy_id"], ["copies.id"], name=op.f("fk_copy_key_pages_copy_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("copy_id", "page", name=op.f("pk_copy_key_pages")),
    )
    op.create_index("ix_copy_key_pages_page", "copy_key_pages", ["page"])
    op.create_table(
        "copy_leases",
        sa.Column("session", UUID, nullable=False),
        sa.Column("copy_id", ROW_ID, nullable=False),
        sa.Column("job", sa.BigInteger()),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("began", MOMENT, nullable=False),
        sa.Column("deadline", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["copy_id"], ["copies.id"], name=op.f("fk_copy_leases_copy_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("session", name=op.f("pk_copy_leases")),
        sa.UniqueConstraint("copy_id", name=op.f("uq_copy_leases_copy_id")),
    )
    op.create_index(op.f("ix_copy_leases_deadline"), "copy_leases", ["deadline"])
    op.create_table(
        "copy_tags",
        sa.Column("copy_id", ROW_ID, nullable=False),
        sa.Column("tag", DIGEST, nullable=False),
        sa.Column("known", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["copy_id"], ["copies.id"], name=op.f("fk_copy_tags_copy_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("copy_id", "tag", name=op.f("pk_copy_tags")),
    )
    op.create_index("ix_copy_tags_tag_known", "copy_tags", ["tag", "known"])
    op.create_table(
        "fragments",
        sa.Column("copy_id", ROW_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("medium", UUID, nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.Column("trailer", sa.LargeBinary(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["copy_id"], ["copies.id"], name=op.f("fk_fragments_copy_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["medium"], ["media.medium"], name=op.f("fk_fragments_medium")),
        sa.PrimaryKeyConstraint("copy_id", "number", name=op.f("pk_fragments")),
    )
    op.create_index(op.f("ix_fragments_medium"), "fragments", ["medium"])
    op.create_table(
        "promises",
        sa.Column("copy_id", ROW_ID, nullable=False),
        sa.Column("target", DIGEST, nullable=False),
        sa.Column("made", MOMENT, nullable=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["copy_id"], ["copies.id"], name=op.f("fk_promises_copy_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("copy_id", "target", name=op.f("pk_promises")),
    )
    op.create_index("ix_promises_kept", "promises", ["kept"])
