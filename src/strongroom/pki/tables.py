"""The registry: authorities, hosts, their names and certificates; and the tokens that admit new hosts."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
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

MAX_SERIAL_DIGITS = 40

pki_authorities = Table(
    "pki_authorities",
    metadata,
    Column("fingerprint", Identity(DIGEST_BYTES), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("root", Identity(DIGEST_BYTES), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("installed", Moment, nullable=False),
    Column("crl_number", BigInteger, nullable=False),
    Column("crl_issued", Moment),
    Column("crl_stale", Boolean, nullable=False),  # something was revoked since
    Column("crl", LargeBinary),
)

# A foreign host keeps the id that its home gave it, so only home and id together name a host.
pki_hosts = Table(
    "pki_hosts",
    metadata,
    Column("home", Identity(DIGEST_BYTES), primary_key=True),
    Column("id", Identity(UUID_BYTES), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("label", Text, nullable=False),
    Column("names", Document, nullable=False),
    Column("enrolled", Moment, nullable=False),
    Column("changed", Moment, nullable=False),
    Index("ix_pki_hosts_role_state", "role", "state"),
)

# One name, one host: what is called by a name of this domain is always the same.
pki_host_names = Table(
    "pki_host_names",
    metadata,
    Column("name", String(253), primary_key=True),
    Column("home", Identity(DIGEST_BYTES), nullable=False),
    Column("host", Identity(UUID_BYTES), nullable=False),
    ForeignKeyConstraint(["home", "host"], ["pki_hosts.home", "pki_hosts.id"]),
    Index("ix_pki_host_names_home_host", "home", "host"),
)

pki_certificates = Table(
    "pki_certificates",
    metadata,
    Column("fingerprint", Identity(DIGEST_BYTES), primary_key=True),
    Column("authority", Identity(DIGEST_BYTES), ForeignKey("pki_authorities.fingerprint"), nullable=False),
    Column("serial", String(MAX_SERIAL_DIGITS), nullable=False),  # hexadecimal; too long for an integer column
    Column("home", Identity(DIGEST_BYTES), nullable=False),
    Column("host", Identity(UUID_BYTES), nullable=False),
    Column("not_before", Moment, nullable=False),
    Column("not_after", Moment, nullable=False),
    Column("issued", Moment, nullable=False),
    Column("revoked", Moment),
    Column("reason_code", String(32)),
    ForeignKeyConstraint(["home", "host"], ["pki_hosts.home", "pki_hosts.id"]),
    Index("uq_pki_certificates_authority_serial", "authority", "serial", unique=True),
    Index("ix_pki_certificates_home_host", "home", "host"),
    Index("ix_pki_certificates_authority_revoked", "authority", "revoked"),
)

pki_tokens = Table(
    "pki_tokens",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("digest", Identity(DIGEST_BYTES), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("role", String(16)),
    Column("reason", Text, nullable=False),
    Column("bound_domain", Identity(DIGEST_BYTES)),
    Column("bound_host", Identity(UUID_BYTES)),
    Column("max_uses", Integer, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("created", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("last_used", Moment),
    Column("revoked", Moment),
    Index("uq_pki_tokens_digest", "digest", unique=True),
)
