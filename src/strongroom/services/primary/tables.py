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
)

# Certificates that other domains issued to this domain's media servers; their keys lie with the media servers.
held_certificates = Table(
    "held_certificates",
    metadata,
    Column("host", Identity(UUID_BYTES), primary_key=True),
    Column("domain", Identity(DIGEST_BYTES), primary_key=True),
    Column("certificate", LargeBinary, nullable=False),
)
