"""The table of evidence, and the one row that every addition passes through."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from strongroom.core.ids import DIGEST_BYTES
from strongroom.database import Document, Identity, Moment, metadata

MAX_FACTS_BYTES = 16_384

audit_log = Table(
    "audit_log",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # without gaps, unlike a sequence
    Column("at", Moment, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("object", Text, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("facts", Document(MAX_FACTS_BYTES), nullable=False),
    Column("hash", Identity(DIGEST_BYTES), nullable=False),
    Index("ix_audit_log_at", "at"),
    Index("ix_audit_log_object_number", "object", "number"),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("number", BigInteger, nullable=False),
    Column("hash", Identity(DIGEST_BYTES), nullable=False),
)
