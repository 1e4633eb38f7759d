"""Revoking certificates, and issuing the lists that say so.

A revocation is in force at this primary with its transaction, because
:func:`strongroom.pki.registry.identify` reads the same rows; elsewhere with the next list, which is due at
once after a revocation and otherwise every hour.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from sqlalchemy import Connection, or_, select, update

from strongroom.core.ids import DomainId, HostId
from strongroom.pki.ca import CRL_LIFETIME, Authority, Revocation, make_crl
from strongroom.pki.errors import CertificateNotFoundError, CRLMissingError, IssuerError
from strongroom.pki.fingerprint import Fingerprint
from strongroom.pki.registry import AuthorityState, Host, issued, set_host_state
from strongroom.pki.roles import HostState
from strongroom.pki.tables import pki_authorities, pki_certificates

CRL_INTERVAL: Final = timedelta(hours=1)


def revoke_certificate(
    connection: Connection, fingerprint: Fingerprint, reason: x509.ReasonFlags, *, now: datetime
) -> None:
    """Revoke one certificate; the first reason stays.

    Raises:
        CertificateNotFoundError: it was not issued here.
    """
    table = pki_certificates.c
    row = connection.execute(select(table.authority).where(table.fingerprint == fingerprint.value)).one_or_none()
    if row is None:
        raise CertificateNotFoundError(f"no certificate here has the fingerprint '{fingerprint}'")
    connection.execute(
        update(pki_certificates)
        .where(table.fingerprint == fingerprint.value, table.revoked.is_(None))
        .values(revoked=now, reason_code=reason.value)
    )
    _make_stale(connection, {row.authority})


def revoke_host(
    connection: Connection, home: DomainId, host: HostId, reason: x509.ReasonFlags, *, now: datetime
) -> int:
    """Revoke all certificates of a host that are still good.

    Returns:
        How many there were.
    """
    table = pki_certificates.c
    revoked = connection.execute(
        update(pki_certificates)
        .where(table.home == home, table.host == host, table.revoked.is_(None), table.not_after > now)
        .values(revoked=now, reason_code=reason.value)
        .returning(table.authority)
    ).all()
    _make_stale(connection, {row.authority for row in revoked})
    return len(revoked)


def retire(connection: Connection, home: DomainId, host: HostId, *, now: datetime) -> Host:
    """Retire a host for good, with all its certificates.

    Raises:
        HostNotFoundError: there is none.
    """
    revoke_host(connection, home, host, x509.ReasonFlags.cessation_of_operation, now=now)
    return set_host_state(connection, home, host, HostState.RETIRED, now=now)


def crls_due(connection: Connection, *, now: datetime) -> list[Fingerprint]:
    """List the authorities whose list is to be issued now: stale after a revocation, or an hour old."""
    table = pki_authorities.c
    rows = connection.execute(
        select(table.fingerprint).where(
            table.state != AuthorityState.RETIRED.value,
            or_(table.crl_stale, table.crl_issued.is_(None), table.crl_issued <= now - CRL_INTERVAL),
        )
    )
    return [Fingerprint(row.fingerprint) for row in rows]


def issue_crl(connection: Connection, authority: Authority, *, now: datetime) -> bytes:
    """Issue the next list of an authority and keep it.

    Returns:
        The list, DER.

    Raises:
        IssuerError: the registry does not have the authority.
    """
    mine = pki_authorities.c.fingerprint == authority.fingerprint.value
    row = connection.execute(select(pki_authorities.c.crl_number).where(mine)).one_or_none()
    if row is None:
        raise IssuerError(f"the authority '{authority.fingerprint}' is not in the registry")
    number = row.crl_number + 1
    data = make_crl(authority, number, _revocations(connection, authority, now), now=now)
    connection.execute(
        update(pki_authorities).where(mine).values(crl_number=number, crl=data, crl_issued=now, crl_stale=False)
    )
    return data


def current_crl(connection: Connection, authority: Fingerprint) -> bytes:
    """Give the list that was issued last, DER.

    Raises:
        CRLMissingError: none yet, or the authority is unknown.
    """
    table = pki_authorities.c
    row = connection.execute(select(table.crl).where(table.fingerprint == authority.value)).one_or_none()
    if row is None or row.crl is None:
        raise CRLMissingError(f"there is no revocation list of the authority '{authority}'")
    return bytes(row.crl)


def _revocations(connection: Connection, authority: Authority, now: datetime) -> list[Revocation]:
    table = pki_certificates.c
    rows = connection.execute(
        select(pki_certificates)
        .where(
            table.authority == authority.fingerprint.value,
            table.revoked.is_not(None),
            # An expired one is refused anyway, but by each host's own clock: name it a little longer.
            table.not_after > now - CRL_LIFETIME,
        )
        .order_by(table.revoked, table.serial)
    )
    lines = []
    for row in rows:
        certificate = issued(row)
        reason = certificate.reason or x509.ReasonFlags.unspecified
        lines.append(Revocation(certificate.serial, row.revoked, reason))
    return lines


def _make_stale(connection: Connection, authorities: set[bytes]) -> None:
    for fingerprint in authorities:
        connection.execute(
            update(pki_authorities).where(pki_authorities.c.fingerprint == fingerprint).values(crl_stale=True)
        )
