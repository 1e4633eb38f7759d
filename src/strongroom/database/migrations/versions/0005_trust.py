"""Trust between domains, and the messages on their way.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ID = sa.LargeBinary(16)
DOMAIN = sa.LargeBinary(32)
NUMBER = sa.BigInteger()
MOMENT = sa.BigInteger()
WORD = sa.String(16)
KIND = sa.String(64)


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "trust_home",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("start", NUMBER, nullable=False),
        sa.Column("instance", ID, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_trust_home_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_home")),
    )
    op.create_table(
        "trust_statements",
        sa.Column("domain", DOMAIN, nullable=False),
        sa.Column("incarnation", NUMBER, nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("received", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("domain", name=op.f("pk_trust_statements")),
    )
    op.create_table(
        "trusts",
        sa.Column("peer", DOMAIN, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("root", sa.LargeBinary()),
        sa.Column("ours", WORD, nullable=False),
        sa.Column("our_number", NUMBER, nullable=False),
        sa.Column("theirs", WORD, nullable=False),
        sa.Column("their_number", NUMBER, nullable=False),
        sa.Column("incarnation", NUMBER, nullable=False),
        sa.Column("offered", NUMBER, nullable=False),
        sa.Column("start", NUMBER, nullable=False),
        sa.Column("instance", ID, nullable=False),
        sa.Column("newer", ID, nullable=False),
        sa.Column("broken", WORD),
        sa.Column("unreachable_since", MOMENT),
        sa.Column("last_exchange", MOMENT),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("changed", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("peer", name=op.f("pk_trusts")),
    )
    op.create_table(
        "trust_credentials",
        sa.Column("id", ID, nullable=False),
        sa.Column("peer", DOMAIN, nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("not_before", MOMENT, nullable=False),
        sa.Column("not_after", MOMENT, nullable=False),
        sa.Column("forgotten", MOMENT),
        sa.ForeignKeyConstraint(["peer"], ["trusts.peer"], name=op.f("fk_trust_credentials_peer")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_credentials")),
    )
    op.create_index("ix_trust_credentials_peer_forgotten", "trust_credentials", ["peer", "forgotten"])
    op.create_table(
        "trust_requests",
        sa.Column("nonce", ID, nullable=False),
        sa.Column("peer", DOMAIN, nullable=False),
        sa.Column("request", DOMAIN, nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_trust_requests")),
    )
    op.create_index("ix_trust_requests_at", "trust_requests", ["at"])
    op.create_table(
        "peer_messages",
        sa.Column("position", ROW_ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("peer", DOMAIN, nullable=False),
        sa.Column("kind", KIND, nullable=False),
        sa.Column("re", ID),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["peer"], ["trusts.peer"], name=op.f("fk_peer_messages_peer")),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_peer_messages")),
        sa.UniqueConstraint("id", name=op.f("uq_peer_messages_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_peer_messages_peer_position", "peer_messages", ["peer", "position"])
    op.create_table(
        "peer_handled",
        sa.Column("peer", DOMAIN, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("owed", sa.Integer(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["peer"], ["trusts.peer"], name=op.f("fk_peer_handled_peer")),
        sa.PrimaryKeyConstraint("peer", "id", name=op.f("pk_peer_handled")),
    )
    op.create_index("ix_peer_handled_peer_owed_at", "peer_handled", ["peer", "owed", "at"])
    op.create_table(
        "peer_requests",
        sa.Column("id", ID, nullable=False),
        sa.Column("peer", DOMAIN, nullable=False),
        sa.Column("kind", KIND, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("answered", MOMENT),
        sa.Column("answer_kind", KIND),
        sa.Column("answer_body", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["peer"], ["trusts.peer"], name=op.f("fk_peer_requests_peer")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_peer_requests")),
    )
    op.create_index("ix_peer_requests_created", "peer_requests", ["created"])
