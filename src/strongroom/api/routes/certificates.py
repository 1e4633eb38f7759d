"""Certificates that this domain issued, and those that its hosts hold of other domains."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from cryptography import x509
from fastapi import Path
from pydantic import Field, StringConstraints
from sqlalchemy import Connection, select

from strongroom.api.errors import AmbiguousError
from strongroom.api.fields import Answer, Body, Line, Password, address, secret
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page, cut
from strongroom.api.ports import HeldCertificate
from strongroom.api.routes.hosts import HostCertificate, certificate_shown
from strongroom.api.routing import Routes
from strongroom.api.security import CallerDep, PartsDep
from strongroom.core.ids import to_text
from strongroom.database import read
from strongroom.pki import names, registry, revocation
from strongroom.pki.ca import IssuerKind, load_certificate
from strongroom.pki.errors import CertificateNotFoundError
from strongroom.pki.fingerprint import Fingerprint, fingerprint_of, read_pin
from strongroom.pki.registry import Host, IssuedCertificate
from strongroom.pki.roles import Role
from strongroom.pki.tables import pki_certificates
from strongroom.trust import store

routes = Routes("certificates")
Serial = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{1,40}$"), Path(description="hexadecimal")]


class Reason(StrEnum):
    """Why a certificate is revoked: the words of RFC 5280."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION = "cessationOfOperation"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"


class CertificateShown(Answer):
    """A certificate: ``issued`` by this domain, or ``held`` by a host of it."""

    owner: Literal["issued", "held"]
    issuer: str
    subject: str
    uris: list[str]
    serial: str
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None
    host: str
    for_domain: str = Field(description="the domain in which the certificate is shown")


class MediaEnrolment(Body):
    """Where a media server of this domain gets a certificate of another domain."""

    server: Line
    fingerprint: Line
    token: Password


class Revocation(Body):
    """Why."""

    reason: Reason = Reason.UNSPECIFIED


@routes.get("/certificates", "certificate.read")
def list_certificates(parts: PartsDep, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[CertificateShown]:
    """List certificates: what this domain issued, and what its hosts hold of other domains."""
    with read(parts.engine) as connection:
        issuers = _issuers(connection)
        found = [
            _issued(host, certificate, issuers, to_text(parts.ours.domain))
            for host in registry.hosts(connection)
            for certificate in registry.certificates(connection, host.home, host.id)
        ]
        for peer in store.peers(connection):
            held = store.credential_view(connection, peer.domain)
            if held is not None:
                leaf = load_certificate(held.chain[0])
                found.append(_of_certificate(leaf, to_text(parts.ours.host), to_text(peer.domain)))
    found += [_held(certificate) for certificate in parts.media.held_certificates()]
    items, following = cut(found, lambda one: f"{one.owner}.{one.for_domain}.{one.issuer}.{one.serial}", after, limit)
    return Page(items=items, next=following)


@routes.post("/certificates/media", "certificate.issue", status=201)
def enrol_media(body: MediaEnrolment, caller: CallerDep) -> CertificateShown:
    """Get this domain's media server a certificate of another domain.

    The token is of the purpose 'enrol-foreign-media', made in the other domain and bound to this one. The fingerprint
    is that of the other domain's root, received by a way that you trust.
    """
    server, pin = address(body.server), read_pin(body.fingerprint)
    held = caller.act(
        lambda: caller.parts.media.enrol_elsewhere(server, pin, secret(body.token), caller.actor),
        object_=f"address:{server}",
        describe=lambda made: {"domain": made.domain.hex(), "serial": made.serial},
    )
    return _held(held)


@routes.post("/certificates/{serial}/revoke", "certificate.revoke", on="certificate:{serial}")
def revoke_certificate(serial: Serial, body: Revocation, caller: CallerDep) -> HostCertificate:
    """Revoke a certificate that this domain issued.

    It is refused here at once, and elsewhere with the next revocation list.
    """
    now = caller.parts.clock.now()

    def revoke(connection: Connection) -> IssuedCertificate:
        revocation.revoke_certificate(
            connection, _by_serial(connection, serial).fingerprint, x509.ReasonFlags(body.reason.value), now=now
        )
        return _by_serial(connection, serial)

    return certificate_shown(caller.transact(revoke, facts={"reason": body.reason.value}))


def _by_serial(connection: Connection, serial: str) -> IssuedCertificate:
    rows = connection.execute(select(pki_certificates).where(pki_certificates.c.serial == serial)).all()
    if not rows:
        raise CertificateNotFoundError(f"no certificate here has the serial number '{serial}'")
    if len(rows) > 1:
        raise AmbiguousError(f"{len(rows)} certificates have the serial number '{serial}'")
    return registry.issued(rows[0])


def _issuers(connection: Connection) -> dict[Fingerprint, str]:
    return {
        fingerprint_of(certificate): certificate.subject.rfc4514_string()
        for kind in (IssuerKind.HOSTS, IssuerKind.FOREIGN)
        for certificate in registry.believed_authorities(connection, kind)
    }


def _issued(host: Host, certificate: IssuedCertificate, issuers: dict[Fingerprint, str], own: str) -> CertificateShown:
    uris = [names.host_uri(host.home, host.id)]
    if host.role is Role.PRIMARY:
        uris.append(names.primary_uri(host.home))
    return CertificateShown(
        owner="issued",
        issuer=issuers.get(certificate.authority, certificate.authority.value.hex()),
        subject=host.label,
        uris=uris,
        serial=f"{certificate.serial:x}",
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        revoked_at=certificate.revoked,
        host=to_text(host.id),
        for_domain=own,
    )


def _of_certificate(leaf: x509.Certificate, host: str, domain: str) -> CertificateShown:
    names_ = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return CertificateShown(
        owner="held",
        issuer=leaf.issuer.rfc4514_string(),
        subject=leaf.subject.rfc4514_string(),
        uris=names_.get_values_for_type(x509.UniformResourceIdentifier),
        serial=f"{leaf.serial_number:x}",
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        revoked_at=None,
        host=host,
        for_domain=domain,
    )


def _held(certificate: HeldCertificate) -> CertificateShown:
    return CertificateShown(
        owner="held",
        issuer=certificate.issuer,
        subject=certificate.subject,
        uris=list(certificate.uris),
        serial=certificate.serial,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        revoked_at=None,
        host=to_text(certificate.host),
        for_domain=to_text(certificate.domain),
    )
