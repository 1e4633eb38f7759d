"""The tables of the catalog.

Times that come from headers are kept as they stand there, in nanoseconds; what only this database knows is a
``Moment``.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from strongroom.catalog.model import CameBy, CopyState, ExpiryBlock, Readability
from strongroom.core.ids import DIGEST_BYTES, UUID_BYTES
from strongroom.database import Identity, Moment, metadata, row_id


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{value.value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


media = Table(
    "media",
    metadata,
    Column("medium", Identity(UUID_BYTES), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("label", String(128), nullable=False),
    Column("domain", Identity(DIGEST_BYTES), nullable=False),
    Column("host", Identity(UUID_BYTES)),
    Column("location", Text, nullable=False),
    Column("journal_sequence", BigInteger, nullable=False),
    Column("journal_digest", Identity(DIGEST_BYTES), nullable=False),
    Column("journal_incarnation", BigInteger, nullable=False),
    Column("journal_written", BigInteger, nullable=False),
    Column("journal_complete", Boolean, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("closed_epoch", BigInteger, nullable=False),
    Column("lock_mode", String(16), nullable=False, server_default="none"),
    Column("lock_clock_ns", BigInteger, nullable=False, server_default="0"),
)

images = Table(
    "images",
    metadata,
    Column("image", Identity(UUID_BYTES), primary_key=True),
    Column("salt", Identity(UUID_BYTES), nullable=False),
    Column("domain", Identity(DIGEST_BYTES), nullable=False),
    Column("backup_id", String(300), nullable=False, index=True),
    Column("client", String(255), nullable=False),
    Column("client_host", Identity(UUID_BYTES), nullable=False),
    Column("policy", String(128), nullable=False),
    Column("schedule", String(128), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("started_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger, nullable=False),
    Column("slp", String(112), nullable=False),
    Column("slp_version", BigInteger, nullable=False),
    Column("data_class", String(64), nullable=False),
    Column("retention_seconds", BigInteger),
    Column("key_group", Identity(UUID_BYTES), nullable=False),
    Column("cipher", BigInteger, nullable=False),
    Column("entries_root", Identity(DIGEST_BYTES)),
    Column("entries_segments", BigInteger),
    Column("entries_bytes", BigInteger),
    Column("payload_root", Identity(DIGEST_BYTES)),
    Column("payload_segments", BigInteger),
    Column("payload_bytes", BigInteger),
    Column("files", BigInteger, nullable=False),
    Column("content_bytes", BigInteger, nullable=False),
    Column("problems", BigInteger, nullable=False),
    Column("digest", Identity(DIGEST_BYTES), nullable=False),
    Column("header", LargeBinary, nullable=False),
    # Pages of the list are cut along this order; the image makes it total.
    Index("ix_images_started_ns_image", "started_ns", "image"),
    Index("ix_images_client_started_ns", "client", "started_ns"),
)

# No foreign key to images: while a backup is being written nobody can know its header yet.
copies = Table(
    "copies",
    metadata,
    Column("id", row_id(), primary_key=True),
    Column("image", Identity(UUID_BYTES), nullable=False),
    Column("domain", Identity(DIGEST_BYTES), nullable=False),
    Column("number", Integer, nullable=False),
    Column("medium", Identity(UUID_BYTES), ForeignKey("media.medium"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("readability", String(16), nullable=False),
    Column("written_ns", BigInteger),
    Column("expires_ns", BigInteger),
    Column("hold", Boolean, nullable=False),
    Column("locked_until_ns", BigInteger, nullable=False),
    Column("lock_lifted", Boolean, nullable=False, server_default=false()),
    Column("encrypted", Boolean, nullable=False),
    Column("cipher", BigInteger, nullable=False),
    Column("slp", String(448), nullable=False),
    Column("slp_version", BigInteger, nullable=False),
    Column("source_copy", Integer, nullable=False),
    Column("entries_root", Identity(DIGEST_BYTES)),
    Column("payload_root", Identity(DIGEST_BYTES)),
    # No foreign key: a tape may be read before the pool whose journal speaks of it.
    Column("journal_medium", Identity(UUID_BYTES), nullable=False),
    Column("journal_named", BigInteger, nullable=False),
    Column("came_by", String(16), nullable=False),
    Column("expiry_blocked", String(16)),
    _one_of("state", CopyState),
    _one_of("readability", Readability),
    _one_of("came_by", CameBy),
    _one_of("expiry_blocked", ExpiryBlock),
    UniqueConstraint("image", "domain", "number"),
    Index("ix_copies_medium_state", "medium", "state"),
    Index("ix_copies_state_expires_ns", "state", "expires_ns"),
    Index("ix_copies_readability", "readability"),
    Index("ix_copies_journal_medium", "journal_medium"),
    sqlite_autoincrement=True,
)

# Who may commit a copy. Taking the row away ends the session, whatever its process believes.
copy_leases = Table(
    "copy_leases",
    metadata,
    Column("session", Identity(UUID_BYTES), primary_key=True),
    Column("copy_id", row_id(), ForeignKey("copies.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("job", BigInteger),
    Column("epoch", BigInteger, nullable=False),
    Column("began", Moment, nullable=False),
    Column("deadline", Moment, nullable=False, index=True),
)

fragments = Table(
    "fragments",
    metadata,
    Column("copy_id", row_id(), ForeignKey("copies.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("medium", Identity(UUID_BYTES), ForeignKey("media.medium"), nullable=False, index=True),
    Column("header", LargeBinary, nullable=False),
    Column("trailer", LargeBinary, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", Identity(DIGEST_BYTES), nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("last", Boolean, nullable=False),
)

copy_tags = Table(
    "copy_tags",
    metadata,
    Column("copy_id", row_id(), ForeignKey("copies.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", Identity(DIGEST_BYTES), primary_key=True),
    Column("known", Boolean, nullable=False),
    Index("ix_copy_tags_tag_known", "tag", "known"),
)

copy_key_pages = Table(
    "copy_key_pages",
    metadata,
    Column("copy_id", row_id(), ForeignKey("copies.id", ondelete="CASCADE"), primary_key=True),
    Column("page", Identity(DIGEST_BYTES), primary_key=True),
    Index("ix_copy_key_pages_page", "page"),
)

# Keyed by name, not by row: a fact may be read before the copy's header, and a tombstone stays after it.
copy_facts = Table(
    "copy_facts",
    metadata,
    Column("image", Identity(UUID_BYTES), primary_key=True),
    Column("domain", Identity(DIGEST_BYTES), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("expiry_set", Boolean, nullable=False),
    Column("expires_ns", BigInteger),
    Column("locked_until_ns", BigInteger, nullable=False),
    Column("tombstone", Boolean, nullable=False),
    Column("unknown_kind", String(32)),
)

copy_holds = Table(
    "copy_holds",
    metadata,
    Column("image", Identity(UUID_BYTES), primary_key=True),
    Column("domain", Identity(DIGEST_BYTES), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("hold", Identity(UUID_BYTES), primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("reason", String(256), nullable=False),
)

file_lists = Table(
    "file_lists",
    metadata,
    Column("image", Identity(UUID_BYTES), ForeignKey("images.image"), primary_key=True),
    Column("salt", Identity(UUID_BYTES), nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("made", Moment, nullable=False),
)

journal_outbox = Table(
    "journal_outbox",
    metadata,
    Column("id", row_id(), primary_key=True),
    Column("medium", Identity(UUID_BYTES), ForeignKey("media.medium"), nullable=False),
    Column("image", Identity(UUID_BYTES), nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("until_ns", BigInteger),
    Column("hold", Identity(UUID_BYTES)),
    Column("object", LargeBinary),
    Column("reason", String(256), nullable=False),
    Index("ix_journal_outbox_medium_id", "medium", "id"),
    sqlite_autoincrement=True,  # the order of the records is the order of their numbers
)

# Signed, and not yet known to lie on the medium: the same bytes are written again after a crash.
journal_batches = Table(
    "journal_batches",
    metadata,
    Column("medium", Identity(UUID_BYTES), ForeignKey("media.medium"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

sent_hops = Table(
    "sent_hops",
    metadata,
    Column("sending", Identity(UUID_BYTES), primary_key=True),
    Column("image", Identity(UUID_BYTES), nullable=False, index=True),
    Column("target", Identity(DIGEST_BYTES), nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("object", LargeBinary, nullable=False),
)

receipts = Table(
    "receipts",
    metadata,
    Column("sending", Identity(UUID_BYTES), primary_key=True),
    Column("image", Identity(UUID_BYTES), nullable=False, index=True),
    Column("target", Identity(DIGEST_BYTES), nullable=False),
    Column("receipt", Identity(UUID_BYTES), nullable=False),
    Column("medium", Identity(UUID_BYTES), nullable=False),
    Column("number", Integer, nullable=False),
    Column("slp", String(112), nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger),
    Column("state", String(16), nullable=False),
    Column("object", LargeBinary, nullable=False),
)

# A copy that somebody else was promised: it stays until that domain's receipt is here.
promises = Table(
    "promises",
    metadata,
    Column("copy_id", row_id(), ForeignKey("copies.id", ondelete="CASCADE"), primary_key=True),
    Column("target", Identity(DIGEST_BYTES), primary_key=True),
    Column("made", Moment, nullable=False),
    Column("kept", Boolean, nullable=False),
    Index("ix_promises_kept", "kept"),
)

# One row: the newest time that expiry has seen, and why it has stopped, if it has.
expiry_guard = Table(
    "expiry_guard",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seen_ns", BigInteger, nullable=False),
    Column("stopped", String(256)),
    Column("confirmed", Boolean, nullable=False),
)
