"""The table of work that clients drive, and of what media servers said last."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table, UniqueConstraint

from strongroom.core.ids import DIGEST_BYTES, UUID_BYTES
from strongroom.database import Document, Identity, Moment, metadata

# A backup or a restore: what the media server may do for it. The grant is kept as a hash, and ends with the work.
client_work = Table(
    "client_work",
    metadata,
    Column("job", BigInteger, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("digest", Identity(DIGEST_BYTES), nullable=False),
    Column("host", Identity(UUID_BYTES), nullable=False),
    Column("medium", Identity(UUID_BYTES), nullable=False),
    Column("image", Identity(UUID_BYTES), nullable=False),
    Column("copy", Integer, nullable=False),
    Column("session", Identity(UUID_BYTES)),
    Column("key_group", Identity(UUID_BYTES), nullable=False),
    Column("details", Document, nullable=False),
    UniqueConstraint("digest"),
)

media_beats = Table(
    "media_beats",
    metadata,
    Column("host", Identity(UUID_BYTES), primary_key=True),
    Column("at", Moment, nullable=False),
    Column("version", String(64), nullable=False),
    Column("pools", Document, nullable=False),
    Column("address", String(512), nullable=False, server_default=""),
    Column("socket", String(1024), nullable=False, server_default=""),
)

# Media servers that serve a pool in object storage beside the one that its row names.
pool_servers = Table(
    "pool_servers",
    metadata,
    Column("medium", Identity(UUID_BYTES), primary_key=True),
    Column("host", Identity(UUID_BYTES), primary_key=True),
)

# The last number that was drawn in a pool's log.
pool_logs = Table(
    "pool_logs",
    metadata,
    Column("medium", Identity(UUID_BYTES), primary_key=True),
    Column("last", BigInteger, nullable=False),
)

# What a pool's media servers must hear of each other; see pool_log.
pool_objects = Table(
    "pool_objects",
    metadata,
    Column("medium", Identity(UUID_BYTES), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("epoch", Integer),
    Column("condemned", BigInteger),
    UniqueConstraint("medium", "number"),
)

# Certificates that other domains issued to this domain's media servers; their keys lie with the media servers.
held_certificates = Table(
    "held_certificates",
    metadata,
    Column("host", Identity(UUID_BYTES), primary_key=True),
    Column("domain", Identity(DIGEST_BYTES), primary_key=True),
    Column("certificate", LargeBinary, nullable=False),
)
