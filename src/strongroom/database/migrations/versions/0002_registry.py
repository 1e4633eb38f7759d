"""Evidence, certificates and tokens, people.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.LargeBinary(16)
DIGEST = sa.LargeBinary(32)
MOMENT = sa.BigInteger()
DOCUMENT = sa.Text()

# A statement that went wrong must not change what only grows; the chain shows what was done on purpose.
SQLITE_TRIGGER = """
CREATE TRIGGER audit_log_{verb} BEFORE {verb} ON audit_log
BEGIN SELECT RAISE(ABORT, 'the audit is never changed'); END
"""
POSTGRESQL_FUNCTION = """
CREATE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit is never changed'; END $$
"""
POSTGRESQL_TRIGGER = """
CREATE TRIGGER audit_log_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse()
"""


def upgrade() -> None:
    """Apply the revision."""
    _audit()
    _authorities_and_hosts()
    _certificates_and_tokens()
    _people()


def _audit() -> None:
    op.create_table(
        "audit_log",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("facts", DOCUMENT, nullable=False),
        sa.Column("hash", DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit_log"),
    )
    op.create_index("ix_audit_log_at", "audit_log", ["at"])
    op.create_index("ix_audit_log_object_number", "audit_log", ["object", "number"])
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
    )
    op.bulk_insert(head, [{"id": 1, "number": 0, "hash": bytes(32)}])
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(SQLITE_TRIGGER.format(verb=verb))
    else:
        op.execute(POSTGRESQL_FUNCTION)
        op.execute(POSTGRESQL_TRIGGER)


def _authorities_and_hosts() -> None:
    op.create_table(
        "pki_authorities",
        sa.Column("fingerprint", DIGEST, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("root", DIGEST, nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("installed", MOMENT, nullable=False),
        sa.Column("crl_number", sa.BigInteger(), nullable=False),
        sa.Column("crl_issued", MOMENT),
        sa.Column("crl_stale", sa.Boolean(), nullable=False),
        sa.Column("crl", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_pki_authorities"),
    )
    op.create_table(
        "pki_hosts",
        sa.Column("home", DIGEST, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("names", DOCUMENT, nullable=False),
        sa.Column("enrolled", MOMENT, nullable=False),
        sa.Column("changed", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("home", "id", name="pk_pki_hosts"),
    )
    op.create_index("ix_pki_hosts_role_state", "pki_hosts", ["role", "state"])
    op.create_table(
        "pki_host_names",
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("home", DIGEST, nullable=False),
        sa.Column("host", ID, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_pki_host_names"),
        sa.ForeignKeyConstraint(["home", "host"], ["pki_hosts.home", "pki_hosts.id"], name="fk_pki_host_names_home"),
    )
    op.create_index("ix_pki_host_names_home_host", "pki_host_names", ["home", "host"])


def _certificates_and_tokens() -> None:
    op.create_table(
        "pki_certificates",
        sa.Column("fingerprint", DIGEST, nullable=False),
        sa.Column("authority", DIGEST, nullable=False),
        sa.Column("serial", sa.String(40), nullable=False),
        sa.Column("home", DIGEST, nullable=False),
        sa.Column("host", ID, nullable=False),
        sa.Column("not_before", MOMENT, nullable=False),
        sa.Column("not_after", MOMENT, nullable=False),
        sa.Column("issued", MOMENT, nullable=False),
        sa.Column("revoked", MOMENT),
        sa.Column("reason_code", sa.String(32)),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_pki_certificates"),
        sa.ForeignKeyConstraint(["authority"], ["pki_authorities.fingerprint"], name="fk_pki_certificates_authority"),
        sa.ForeignKeyConstraint(["home", "host"], ["pki_hosts.home", "pki_hosts.id"], name="fk_pki_certificates_home"),
    )
    op.create_index("uq_pki_certificates_authority_serial", "pki_certificates", ["authority", "serial"], unique=True)
    op.create_index("ix_pki_certificates_home_host", "pki_certificates", ["home", "host"])
    op.create_index("ix_pki_certificates_authority_revoked", "pki_certificates", ["authority", "revoked"])
    op.create_table(
        "pki_tokens",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("role", sa.String(16)),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("bound_domain", DIGEST),
        sa.Column("bound_host", ID),
        sa.Column("max_uses", sa.Integer(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires", MOMENT, nullable=False),
        sa.Column("last_used", MOMENT),
        sa.Column("revoked", MOMENT),
        sa.PrimaryKeyConstraint("name", name="pk_pki_tokens"),
    )
    op.create_index("uq_pki_tokens_digest", "pki_tokens", ["digest"], unique=True)


def _people() -> None:
    op.create_table(
        "people_users",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("password", sa.Text()),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", MOMENT),
        sa.Column("created", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_people_users"),
    )
    op.create_index("uq_people_users_name", "people_users", ["name"], unique=True)
    op.create_table(
        "people_grants",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("scope", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "role", "scope", name="pk_people_grants"),
        sa.ForeignKeyConstraint(["user_id"], ["people_users.id"], name="fk_people_grants_user_id"),
    )
    op.create_table(
        "people_system_accounts",
        sa.Column("uid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_people_system_accounts"),
        sa.ForeignKeyConstraint(["user_id"], ["people_users.id"], name="fk_people_system_accounts_user_id"),
    )
    op.create_table(
        "people_sessions",
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("used", MOMENT, nullable=False),
        sa.Column("expires", MOMENT, nullable=False),
        sa.Column("idle_seconds", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_people_sessions"),
        sa.ForeignKeyConstraint(["user_id"], ["people_users.id"], name="fk_people_sessions_user_id"),
    )
    op.create_index("ix_people_sessions_user_id", "people_sessions", ["user_id"])
    op.create_index("ix_people_sessions_expires", "people_sessions", ["expires"])
