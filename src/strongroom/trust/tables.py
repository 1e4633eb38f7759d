"""Tables of trust: peers, statements, our certificates at peers, and the messages on their way."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from strongroom.core.ids import DIGEST_BYTES, UUID_BYTES
from strongroom.database import Document, Identity, Moment, metadata, row_id

MAX_KIND = 64

# One row for this domain: the counter from which decisions are numbered, and which home this is.
trust_home = Table(
    "trust_home",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("instance", Identity(UUID_BYTES), nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

# The newest statement of each domain, our own too.
trust_statements = Table(
    "trust_statements",
    metadata,
    Column("domain", Identity(DIGEST_BYTES), primary_key=True),
    Column("incarnation", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("received", Moment, nullable=False),
)

# Never deleted: after a removal, what comes late must still be known to be late.
trusts = Table(
    "trusts",
    metadata,
    Column("peer", Identity(DIGEST_BYTES), primary_key=True),
    Column("name", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("root", LargeBinary),
    Column("ours", String(16), nullable=False),
    Column("our_number", BigInteger, nullable=False),
    Column("theirs", String(16), nullable=False),
    Column("their_number", BigInteger, nullable=False),
    Column("incarnation", BigInteger, nullable=False),
    Column("offered", BigInteger, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("instance", Identity(UUID_BYTES), nullable=False),
    Column("newer", Identity(UUID_BYTES), nullable=False),
    Column("broken", String(16)),
    Column("unreachable_since", Moment),
    Column("last_exchange", Moment),
    Column("created", Moment, nullable=False),
    Column("changed", Moment, nullable=False),
)

# What peers issued to us. The private key is kept elsewhere, under the name of the row.
trust_credentials = Table(
    "trust_credentials",
    metadata,
    Column("id", Identity(UUID_BYTES), primary_key=True),
    Column("peer", Identity(DIGEST_BYTES), ForeignKey("trusts.peer"), nullable=False),
    Column("chain", Document(131_072), nullable=False),  # hexadecimal DER
    Column("not_before", Moment, nullable=False),
    Column("not_after", Moment, nullable=False),
    Column("forgotten", Moment),
    Index("ix_trust_credentials_peer_forgotten", "peer", "forgotten"),
)

# What was answered to a request for trust, so that the same request gets the same answer.
trust_requests = Table(
    "trust_requests",
    metadata,
    Column("nonce", Identity(UUID_BYTES), primary_key=True),
    Column("peer", Identity(DIGEST_BYTES), nullable=False),
    Column("request", Identity(DIGEST_BYTES), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("at", Moment, nullable=False),
    Index("ix_trust_requests_at", "at"),
)

# The outbox: sent in every exchange until the peer says that it is done.
peer_messages = Table(
    "peer_messages",
    metadata,
    Column("position", row_id(), primary_key=True),
    Column("id", Identity(UUID_BYTES), nullable=False, unique=True),
    Column("peer", Identity(DIGEST_BYTES), ForeignKey("trusts.peer"), nullable=False),
    Column("kind", String(MAX_KIND), nullable=False),
    Column("re", Identity(UUID_BYTES)),
    Column("body", LargeBinary, nullable=False),
    Column("created", Moment, nullable=False),
    Index("ix_peer_messages_peer_position", "peer", "position"),
    sqlite_autoincrement=True,
)

# The inbox: what was handled; while ``owed``, the peer has not yet been told.
peer_handled = Table(
    "peer_handled",
    metadata,
    Column("peer", Identity(DIGEST_BYTES), ForeignKey("trusts.peer"), primary_key=True),
    Column("id", Identity(UUID_BYTES), primary_key=True),
    Column("owed", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    Index("ix_peer_handled_peer_owed_at", "peer", "owed", "at"),
)

# Questions of ours, and what came back.
peer_requests = Table(
    "peer_requests",
    metadata,
    Column("id", Identity(UUID_BYTES), primary_key=True),
    Column("peer", Identity(DIGEST_BYTES), ForeignKey("trusts.peer"), nullable=False),
    Column("kind", String(MAX_KIND), nullable=False),
    Column("created", Moment, nullable=False),
    Column("answered", Moment),
    Column("answer_kind", String(MAX_KIND)),
    Column("answer_body", LargeBinary),
    Index("ix_peer_requests_created", "created"),
)
