"""The certificate authority of this domain, or what another primary says of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from fastapi import Query
from pydantic import Field

from strongroom.api.fields import Answer, Line, address
from strongroom.api.routing import Routes
from strongroom.api.security import ANYBODY, PartsDep
from strongroom.core.ids import to_text
from strongroom.database import read
from strongroom.pki import bootstrap, names, registry
from strongroom.pki.ca import IssuerKind, load_certificate
from strongroom.pki.errors import CertificateDamagedError
from strongroom.pki.fingerprint import fingerprint_of, sha1_for_comparison

routes = Routes("ca")


class Issuer(Answer):
    """An issuing authority below the root."""

    subject: str
    sha256: str
    not_after: datetime


class CA(Answer):
    """A root certificate. Only ``fingerprint_sha256`` and ``words`` serve as a pin."""

    domain: str
    name: str
    fingerprint_sha256: str
    words: list[str]
    fingerprint_sha1_for_comparison: str = Field(description="for older tools' displays; never accepted as a pin")
    not_after: datetime
    subject: str
    verified: bool = Field(description="false for another primary: compare the fingerprint by another way")
    issuing: list[Issuer]


class Roots(Answer):
    """Root certificates, PEM; after a renewal the old one is still there."""

    roots: list[str]


@routes.get("/ca", "certificate.read")
def show_ca(parts: PartsDep, server: Annotated[Line | None, Query(description="HOST:PORT of a primary")] = None) -> CA:
    """Show the root certificate's fingerprint, of this domain or of another primary.

    What another primary says is marked as unverified: nobody but its administrator can vouch for it.
    """
    if server is not None:
        claimed = bootstrap.fetch_ca(address(server), parts.clock)
        issuers = [_readable(data) for data in claimed.document.issuers]
        return _ca(claimed.roots[0], [issuer for issuer in issuers if issuer is not None], verified=False)
    with read(parts.engine) as connection:
        issuing = [
            issuer
            for kind in (IssuerKind.HOSTS, IssuerKind.FOREIGN)
            for issuer in registry.believed_authorities(connection, kind)
        ]
    return _ca(load_certificate(parts.ours.roots[0]), issuing, verified=True)


@routes.get("/ca/roots", ANYBODY)
def list_roots(parts: PartsDep) -> Roots:
    """Give the root certificates, which is how a person who signs in from elsewhere gets them.

    They are public, and nothing vouches for them here: compare the fingerprint of one with what the administrator says.
    """
    return Roots(roots=[load_certificate(root).public_bytes(Encoding.PEM).decode() for root in parts.ours.roots])


def _ca(root: x509.Certificate, issuing: list[x509.Certificate], *, verified: bool) -> CA:
    fingerprint = fingerprint_of(root)
    common = root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return CA(
        domain=to_text(names.read_domain(root)),
        name=str(common[0].value) if common else "",
        fingerprint_sha256=fingerprint.value.hex(),
        words=fingerprint.words.split(),
        fingerprint_sha1_for_comparison=sha1_for_comparison(root),
        not_after=root.not_valid_after_utc,
        subject=root.subject.rfc4514_string(),
        verified=verified,
        issuing=[
            Issuer(
                subject=issuer.subject.rfc4514_string(),
                sha256=fingerprint_of(issuer).value.hex(),
                not_after=issuer.not_valid_after_utc,
            )
            for issuer in issuing
        ],
    )


def _readable(data: bytes) -> x509.Certificate | None:
    try:
        return load_certificate(data)
    except CertificateDamagedError:
        return None  # shown unverified anyway; what is damaged cannot be shown
