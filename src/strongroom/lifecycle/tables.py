"""The tables of lifecycle policies and replications."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from strongroom.core.ids import DIGEST_BYTES, UUID_BYTES
from strongroom.database import Document, Identity, Moment, metadata


class ReplicationState(StrEnum):
    """Where a promised sending is."""

    WAITING = "waiting"
    """Promised; nothing was tried yet."""
    SENDING = "sending"
    """A job is at it."""
    SENT = "sent"
    """The target has everything on stable storage; its receipt is still to come."""
    CONFIRMED = "confirmed"
    """The target's receipt is here."""
    FAILED = "failed-will-retry"
    REFUSED = "refused"
    """The target will not have it; an administrator must say when to try again."""


policies = Table(
    "slps",
    metadata,
    Column("name", String(112), primary_key=True),
    Column("newest", Integer, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("changed", Moment, nullable=False),
)

policy_versions = Table(
    "slp_versions",
    metadata,
    Column("name", String(112), ForeignKey("slps.name"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Document, nullable=False),
    Column("made", Moment, nullable=False),
)

# Which version an image began with, here: the mark that its promises have been made.
image_lifecycles = Table(
    "image_lifecycles",
    metadata,
    Column("image", Identity(UUID_BYTES), primary_key=True),
    Column("name", String(112), nullable=False),
    Column("version", Integer, nullable=False),
    Column("wanted_seconds", BigInteger),
    Column("began", Moment, nullable=False),
    ForeignKeyConstraint(["name", "version"], ["slp_versions.name", "slp_versions.version"]),
)

replications = Table(
    "replications",
    metadata,
    Column("image", Identity(UUID_BYTES), primary_key=True),
    Column("target", Identity(DIGEST_BYTES), primary_key=True),
    Column("operation", Integer, nullable=False),
    Column("source_domain", Identity(DIGEST_BYTES), nullable=False),
    Column("source_copy", Integer, nullable=False),
    Column("slp", String(112), nullable=False),
    Column("retention_seconds", BigInteger),
    Column("state", String(24), nullable=False),
    Column("sending", Identity(UUID_BYTES), unique=True),
    Column("hop", LargeBinary),
    Column("fence", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("error_code", String(128)),
    Column("error", Text),
    Column("sent_bytes", BigInteger, nullable=False),
    Column("promised", Moment, nullable=False),
    Column("started", Moment),
    Column("sent", Moment),
    Column("confirmed", Moment),
    Column("retry_at", Moment),
    CheckConstraint("state IN (" + ", ".join(f"'{state}'" for state in ReplicationState) + ")", name="state"),
    Index("ix_replications_state_promised", "state", "promised"),
    Index("ix_replications_target_state", "target", "state"),
)
