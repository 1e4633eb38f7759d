"""The tables of storage targets, storage credentials, and images that are on their way in."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table, UniqueConstraint

from strongroom.core.ids import DIGEST_BYTES, UUID_BYTES
from strongroom.database import Document, Identity, Moment, metadata

# At the target: what a sender must show to add images to a pool. The secret is kept as a hash.
storage_credentials = Table(
    "storage_credentials",
    metadata,
    Column("id", Identity(UUID_BYTES), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("medium", Identity(UUID_BYTES), nullable=False),
    Column("sender", Identity(DIGEST_BYTES), nullable=False),
    Column("digest", Identity(DIGEST_BYTES), nullable=False),
    Column("created", Moment, nullable=False),
    Column("used", Moment),
    Column("revoked", Moment),
    UniqueConstraint("name"),
)

# At the source: where images may be sent to. The credential's secret lies in the service keys, under the id's name.
storage_targets = Table(
    "storage_targets",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("domain", Identity(DIGEST_BYTES), nullable=False),
    Column("server", String(128), nullable=False),
    Column("medium", Identity(UUID_BYTES), nullable=False),
    Column("addresses", Document, nullable=False),
    Column("credential", Identity(UUID_BYTES), nullable=False),
    Column("added", Moment, nullable=False),
    UniqueConstraint("domain"),
)

# At the target: one image that a sender was allowed to send. Ends when its copy is written, or is taken over.
receiving_sessions = Table(
    "receiving_sessions",
    metadata,
    Column("session", Identity(UUID_BYTES), primary_key=True),
    Column("image", Identity(UUID_BYTES), nullable=False),
    Column("sender", Identity(DIGEST_BYTES), nullable=False),
    Column("sending", Identity(UUID_BYTES), nullable=False),
    Column("medium", Identity(UUID_BYTES), nullable=False),
    Column("copy", Integer, nullable=False),
    Column("slp", String(112), nullable=False),
    Column("slp_version", Integer, nullable=False),
    Column("retention_seconds", BigInteger, nullable=False),
    Column("hop", LargeBinary, nullable=False),
    Column("copy_header", LargeBinary, nullable=False),
    Column("began", Moment, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("frame_bytes", BigInteger, nullable=False),
    UniqueConstraint("image", "sender"),
)
