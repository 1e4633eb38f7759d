"""Who is who: the rows from which all authority of a host comes.

A certificate is looked up by its fingerprint, so that neither a second certificate under a known serial
number nor one that a stolen issuer key signed is anybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from cryptography import x509
from sqlalchemy import Connection, Row, delete, insert, select, update

from strongroom.core.ids import DomainId, HostId, to_text
from strongroom.database import racing
from strongroom.pki.ca import Authority, IssuerKind, load_certificate, to_der
from strongroom.pki.crl import require_signed_by
from strongroom.pki.errors import (
    ExpiredError,
    HostNotFoundError,
    IssuerError,
    NameTakenError,
    NotRegisteredError,
    NotYetValidError,
    RetiredError,
    RevokedError,
    UnknownIssuerError,
)
from strongroom.pki.fingerprint import Fingerprint, fingerprint_of
from strongroom.pki.names import HostNames
from strongroom.pki.roles import HostState, Role
from strongroom.pki.tables import pki_authorities, pki_certificates, pki_host_names, pki_hosts


class AuthorityState(StrEnum):
    """Life of an authority: it signs, is still believed, is believed no more."""

    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"


@dataclass(frozen=True)
class Host:
    """A row of the registry."""

    home: DomainId
    id: HostId
    role: Role
    state: HostState
    label: str
    names: HostNames
    enrolled: datetime


@dataclass(frozen=True)
class RegisteredHost:
    """Who a caller is, after its certificate was found good; made by :func:`identify` alone."""

    host: Host
    authority: Fingerprint
    serial: int
    not_after: datetime


@dataclass(frozen=True)
class IssuedCertificate:
    """What is remembered of a certificate."""

    fingerprint: Fingerprint
    authority: Fingerprint
    serial: int
    home: DomainId
    host: HostId
    not_before: datetime
    not_after: datetime
    revoked: datetime | None
    reason: x509.ReasonFlags | None


# ---------------------------------------------------------------- authorities


def install_authority(connection: Connection, authority: Authority, *, now: datetime) -> None:
    """Let an authority sign from now on; its predecessor stays believed until it is retired."""
    table = pki_authorities.c
    connection.execute(
        update(pki_authorities)
        .where(table.kind == authority.kind.value, table.state == AuthorityState.ACTIVE.value)
        .values(state=AuthorityState.RETIRING.value)
    )
    connection.execute(
        insert(pki_authorities).values(
            fingerprint=authority.fingerprint.value,
            kind=authority.kind.value,
            root=fingerprint_of(authority.root).value,
            certificate=to_der(authority.certificate),
            state=AuthorityState.ACTIVE.value,
            installed=now,
            crl_number=0,
            crl_stale=True,
        )
    )


def retire_authority(connection: Connection, fingerprint: Fingerprint) -> None:
    """Believe an authority no more, nor anything it signed.

    Raises:
        IssuerError: it is unknown, or still the one that signs.
    """
    table = pki_authorities.c
    done = connection.execute(
        update(pki_authorities)
        .where(table.fingerprint == fingerprint.value, table.state == AuthorityState.RETIRING.value)
        .values(state=AuthorityState.RETIRED.value)
    )
    if done.rowcount != 1:
        raise IssuerError(
            f"the authority '{fingerprint}' has no successor, or is not known",
            hint="install its successor first, and let all hosts renew",
        )


def believed_authorities(connection: Connection, kind: IssuerKind) -> list[x509.Certificate]:
    """List the certificates of the authorities of one kind that are believed, the one that signs first."""
    table = pki_authorities.c
    rows = connection.execute(
        select(table.certificate)
        .where(table.kind == kind.value, table.state != AuthorityState.RETIRED.value)
        .order_by(table.state, table.installed.desc())
    )
    return [load_certificate(bytes(row.certificate)) for row in rows]


# ---------------------------------------------------------------- hosts


def enter_host(
    connection: Connection,
    home: DomainId,
    host: HostId,
    role: Role,
    label: str,
    names: HostNames,
    now: datetime,
) -> Host:
    """Enter a host, or one of another domain again after it was retired.

    Raises:
        NameTakenError: another host has one of the names.
        DatabaseBusyError: the id is in use, though the caller has just found it free.
    """
    facts = {
        "role": role.value,
        "state": HostState.ACTIVE.value,
        "label": label,
        "names": list(names.texts),
        "enrolled": now,
        "changed": now,
    }
    table = pki_hosts.c
    again = connection.execute(
        update(pki_hosts)
        .where(
            table.home == home,
            table.id == host,
            table.state == HostState.RETIRED.value,
            table.role.in_([role.value for role in Role if role.is_foreign]),
        )
        .values(**facts)
    )
    if again.rowcount == 0:
        with racing():
            connection.execute(insert(pki_hosts).values(home=home, id=host, **facts))
    if not role.is_foreign:
        _claim_names(connection, home, host, names)
    return get_host(connection, home, host)


def find_host(connection: Connection, home: DomainId, host: HostId) -> Host | None:
    """Look a host up by its id."""
    table = pki_hosts.c
    row = connection.execute(select(pki_hosts).where(table.home == home, table.id == host)).one_or_none()
    return None if row is None else _host(row)


def get_host(connection: Connection, home: DomainId, host: HostId) -> Host:
    """Look a host up by its id.

    Raises:
        HostNotFoundError: there is none.
    """
    found = find_host(connection, home, host)
    if found is None:
        raise HostNotFoundError(f"the registry has no host '{to_text(host)}' of the domain '{home.hex()}'")
    return found


def hosts(connection: Connection, *, role: Role | None = None, home: DomainId | None = None) -> list[Host]:
    """List hosts, retired ones too, in the order of their enrolment."""
    query = select(pki_hosts).order_by(pki_hosts.c.enrolled, pki_hosts.c.id)
    if role is not None:
        query = query.where(pki_hosts.c.role == role.value)
    if home is not None:
        query = query.where(pki_hosts.c.home == home)
    return [_host(row) for row in connection.execute(query)]


def set_host_state(connection: Connection, home: DomainId, host: HostId, state: HostState, *, now: datetime) -> Host:
    """Suspend a host, let it act again, or retire it for good: its names become free.

    Certificates are not touched: :func:`strongroom.pki.revocation.retire` does both.

    Raises:
        HostNotFoundError: there is none.
        RetiredError: it was retired, which cannot be undone.
    """
    held = get_host(connection, home, host)
    if held.state is HostState.RETIRED and state is not HostState.RETIRED:
        raise RetiredError(f"the host '{held.label}' was retired")
    table = pki_hosts.c
    connection.execute(
        update(pki_hosts).where(table.home == home, table.id == host).values(state=state.value, changed=now)
    )
    if state is HostState.RETIRED:
        names = pki_host_names.c
        connection.execute(delete(pki_host_names).where(names.home == home, names.host == host))
    return get_host(connection, home, host)


# ---------------------------------------------------------------- certificates


def record_certificate(
    connection: Connection, certificate: x509.Certificate, issuer: Authority, host: Host, *, now: datetime
) -> IssuedCertificate:
    """Enter a certificate, in the transaction that hands it out."""
    connection.execute(
        insert(pki_certificates).values(
            fingerprint=fingerprint_of(certificate).value,
            authority=issuer.fingerprint.value,
            serial=f"{certificate.serial_number:x}",
            home=host.home,
            host=host.id,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            issued=now,
        )
    )
    table = pki_certificates.c
    row = connection.execute(
        select(pki_certificates).where(table.fingerprint == fingerprint_of(certificate).value)
    ).one()
    return issued(row)


def certificates(connection: Connection, home: DomainId, host: HostId) -> list[IssuedCertificate]:
    """List the certificates of a host, newest first."""
    table = pki_certificates.c
    query = select(pki_certificates).where(table.home == home, table.host == host)
    return [issued(row) for row in connection.execute(query.order_by(table.issued.desc()))]


def identify(connection: Connection, certificate: bytes, *, now: datetime) -> RegisteredHost:
    """Find out who shows a certificate, and whether it may act at all; done for each request.

    Args:
        connection: any; one look-up by key.
        certificate: DER, from :func:`strongroom.pki.tls.peer_certificate`.
        now: judges its time.

    Raises:
        CertificateDamagedError: it cannot be read.
        UnknownIssuerError: no authority of this domain signed it.
        NotRegisteredError: one did, and the registry does not have it.
        RetiredError: the host was retired or suspended, or the authority was retired.
        RevokedError, ExpiredError, NotYetValidError: as named.
    """
    hosts_, certs, authorities = pki_hosts.c, pki_certificates.c, pki_authorities.c
    digest = hashlib.sha256(certificate).digest()
    row = connection.execute(
        select(pki_hosts, pki_certificates, authorities.state.label("authority_state"))
        .select_from(pki_certificates)
        .join(pki_hosts, (hosts_.home == certs.home) & (hosts_.id == certs.host))
        .join(pki_authorities, authorities.fingerprint == certs.authority)
        .where(certs.fingerprint == digest)
    ).one_or_none()
    if row is None:
        raise _stranger(connection, load_certificate(certificate))
    host = _host(row)
    if row.authority_state == AuthorityState.RETIRED.value:
        raise RetiredError(f"the authority that signed the certificate of '{host.label}' was retired")
    if host.state is not HostState.ACTIVE:
        raise RetiredError(f"the host '{host.label}' is {host.state}")
    if row.revoked is not None:
        raise RevokedError(f"the certificate {row.serial} of '{host.label}' was revoked on {row.revoked:%Y-%m-%d}")
    if now < row.not_before:
        raise NotYetValidError(f"the certificate of '{host.label}' begins on {row.not_before:%Y-%m-%d %H:%M} UTC")
    if now >= row.not_after:
        raise ExpiredError(f"the certificate of '{host.label}' ended on {row.not_after:%Y-%m-%d %H:%M} UTC")
    return RegisteredHost(host, Fingerprint(row.authority), int(row.serial, 16), row.not_after)


def issued(row: Row[Any]) -> IssuedCertificate:
    """Read a row of the certificates."""
    return IssuedCertificate(
        fingerprint=Fingerprint(row.fingerprint),
        authority=Fingerprint(row.authority),
        serial=int(row.serial, 16),
        home=DomainId(row.home),
        host=HostId(row.host),
        not_before=row.not_before,
        not_after=row.not_after,
        revoked=row.revoked,
        reason=x509.ReasonFlags(row.reason_code) if row.reason_code else None,
    )


def _stranger(connection: Connection, certificate: x509.Certificate) -> NotRegisteredError | UnknownIssuerError:
    """Tell a certificate of a foreign CA from one of ours that the registry lost, or never had."""
    for kind in (IssuerKind.HOSTS, IssuerKind.FOREIGN):
        for authority in believed_authorities(connection, kind):
            try:
                require_signed_by(certificate, authority)
            except UnknownIssuerError:
                continue
            return NotRegisteredError(
                f"the certificate {certificate.serial_number:x} is of this domain and not in its registry"
            )
    return UnknownIssuerError("the certificate was not issued by this domain")


def _claim_names(connection: Connection, home: DomainId, host: HostId, names: HostNames) -> None:
    for name in names.texts:
        taken = connection.execute(
            select(pki_hosts.c.label)
            .join(
                pki_host_names,
                (pki_host_names.c.home == pki_hosts.c.home) & (pki_host_names.c.host == pki_hosts.c.id),
            )
            .where(pki_host_names.c.name == name)
        ).one_or_none()
        if taken is not None:
            raise NameTakenError(f"the name '{name}' belongs to the host '{taken.label}'")
        with racing():
            connection.execute(insert(pki_host_names).values(name=name, home=home, host=host))


def _host(row: Row[Any]) -> Host:
    names: Sequence[str] = row.names
    return Host(
        home=DomainId(row.home),
        id=HostId(row.id),
        role=Role(row.role),
        state=HostState(row.state),
        label=row.label,
        names=HostNames.read(names),
        enrolled=row.enrolled,
    )
