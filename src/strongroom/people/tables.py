"""Users, what they were granted, and their sessions."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from strongroom.core.ids import DIGEST_BYTES, UUID_BYTES
from strongroom.database import Identity, Moment, metadata

people_users = Table(
    "people_users",
    metadata,
    Column("id", Identity(UUID_BYTES), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("password", Text),  # PHC string; none when only a system account signs in
    Column("enabled", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("locked_until", Moment),
    Column("created", Moment, nullable=False),
    Index("uq_people_users_name", "name", unique=True),
)

people_grants = Table(
    "people_grants",
    metadata,
    Column("user_id", Identity(UUID_BYTES), ForeignKey("people_users.id"), primary_key=True),
    Column("role", String(32), primary_key=True),
    Column("scope", String(256), primary_key=True),
)

people_system_accounts = Table(
    "people_system_accounts",
    metadata,
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", Identity(UUID_BYTES), ForeignKey("people_users.id"), nullable=False),
)

people_sessions = Table(
    "people_sessions",
    metadata,
    Column("digest", Identity(DIGEST_BYTES), primary_key=True),
    Column("user_id", Identity(UUID_BYTES), ForeignKey("people_users.id"), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("created", Moment, nullable=False),
    Column("used", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("idle_seconds", Integer, nullable=False),
    Index("ix_people_sessions_user_id", "user_id"),
    Index("ix_people_sessions_expires", "expires"),
)
