"""The certificate authority of a domain: one root, two issuers, and the certificates they sign.

    root     ECDSA P-384, 20 years; signs the issuers and its own revocation list, nothing else
    hosts    ECDSA P-256, 10 years; hosts of this domain, for a year
    foreign  ECDSA P-256, 10 years; hosts of trusted domains, for 90 days; limited to client authentication

Everything here is a function of its arguments; what was issued is recorded by :mod:`strongroom.pki.registry`.
Source: RFC 5280.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from strongroom.core.entropy import Entropy
from strongroom.core.ids import DomainId, HostId, to_text
from strongroom.core.secret import Secret
from strongroom.pki import names
from strongroom.pki.errors import CertificateDamagedError, IssuerError
from strongroom.pki.fingerprint import Fingerprint, fingerprint_of
from strongroom.pki.keys import load_key, make_host_key, make_root_key

ROOT_LIFETIME: Final = timedelta(days=20 * 365)
ISSUER_LIFETIME: Final = timedelta(days=10 * 365)
HOST_LIFETIME: Final = timedelta(days=365)
FOREIGN_LIFETIME: Final = timedelta(days=90)
CRL_LIFETIME: Final = timedelta(days=7)
# A host whose clock is a little slow must not find its new certificate not yet valid.
BACKDATE: Final = timedelta(minutes=5)
SERIAL_BYTES: Final = 16
MAX_CERTIFICATE_BYTES: Final = 16_384
MAX_COMMON_NAME: Final = 64  # RFC 5280, upper bound of a common name

_SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
_CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH


class IssuerKind(StrEnum):
    """What an authority of the domain signs."""

    ROOT = "root"
    HOSTS = "hosts"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Authority:
    """A certificate that signs others, with its private key.

    Args:
        kind: what it signs.
        certificate: its own.
        key: PKCS #8, DER.
        root: the root above it; its own certificate for a root.
    """

    kind: IssuerKind
    certificate: x509.Certificate
    key: Secret
    root: x509.Certificate

    @property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint of its own certificate; names it in the registry."""
        return fingerprint_of(self.certificate)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What a holder sends behind its own certificate: all but the root."""
        return () if self.kind is IssuerKind.ROOT else (self.certificate,)


@dataclass(frozen=True)
class Subject:
    """What a host certificate is to say; every field comes from the registry, none from the host's request.

    Args:
        home: the domain that the host belongs to.
        host: its id there.
        names: names to call it by; needed only where it listens.
        listens: whether others connect to it.
        primary_of: set in the server certificate of a domain's primary.
    """

    home: DomainId
    host: HostId
    names: names.HostNames
    listens: bool
    primary_of: DomainId | None = None


@dataclass(frozen=True)
class Revocation:
    """One line of a revocation list."""

    serial: int
    at: datetime
    reason: x509.ReasonFlags


def make_root(domain: DomainId, name: str, *, now: datetime, entropy: Entropy) -> Authority:
    """Make a root with a new key.

    Args:
        domain: stands in the root, so that who pins the root has the domain id as well.
        name: of the domain, for people.
        now: time of issue.
        entropy: for the serial number.
    """
    key = make_root_key()
    public = load_key(key).public_key()
    subject = _name(name, "root", public)
    builder = _builder(subject, subject, public, now, now + ROOT_LIFETIME, entropy)
    builder = _as_ca(builder, path_length=1)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(names.domain_uri(domain))]),
        critical=False,
    )
    certificate = builder.sign(load_key(key), hashes.SHA384())
    return Authority(IssuerKind.ROOT, certificate, key, certificate)


def make_issuer(root: Authority, kind: IssuerKind, *, now: datetime, entropy: Entropy) -> Authority:
    """Make an issuer below a root, with a new key.

    Raises:
        IssuerError: ``root`` is none, or its time is nearly over.
    """
    if root.kind is not IssuerKind.ROOT or kind is IssuerKind.ROOT:
        raise IssuerError(f"a '{root.kind}' authority does not sign a '{kind}' authority")
    key = make_host_key()
    public = load_key(key).public_key()
    organisation = root.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    subject = _name(str(organisation[0].value), kind.value, public)
    not_after = _within(root.certificate, now, now + ISSUER_LIFETIME)
    builder = _builder(subject, root.certificate.subject, public, now, not_after, entropy)
    builder = _as_ca(builder, path_length=0)
    # OpenSSL and its like demand the purpose of every certificate up the chain.
    purposes = [_CLIENT] if kind is IssuerKind.FOREIGN else [_SERVER, _CLIENT]
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    builder = builder.add_extension(_authority_key(root), critical=False)
    certificate = builder.sign(load_key(root.key), hashes.SHA384())
    return Authority(kind, certificate, key, root.certificate)


def issue(
    issuer: Authority,
    subject: Subject,
    public_key: ec.EllipticCurvePublicKey,
    *,
    now: datetime,
    entropy: Entropy,
) -> x509.Certificate:
    """Sign the certificate of a host.

    Raises:
        IssuerError: the issuer does not sign such hosts, or its time is over.
    """
    if issuer.kind is IssuerKind.ROOT or (issuer.kind is IssuerKind.FOREIGN and subject.listens):
        raise IssuerError(f"the '{issuer.kind}' authority does not sign this sort of certificate")
    if subject.primary_of is not None and (not subject.listens or subject.primary_of != subject.home):
        raise IssuerError("only a host that listens in its own domain is a primary")
    lifetime = FOREIGN_LIFETIME if issuer.kind is IssuerKind.FOREIGN else HOST_LIFETIME
    not_after = _within(issuer.certificate, now, now + lifetime)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, to_text(subject.host))])
    builder = _builder(name, issuer.certificate.subject, public_key, now, not_after, entropy)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    purposes = [_SERVER, _CLIENT] if subject.listens else [_CLIENT]
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(_alternative_names(subject)), critical=False)
    builder = builder.add_extension(_authority_key(issuer), critical=False)
    return builder.sign(load_key(issuer.key), hashes.SHA256())


def make_crl(issuer: Authority, number: int, revoked: Iterable[Revocation], *, now: datetime) -> bytes:
    """Sign a revocation list that holds for seven days.

    Args:
        issuer: whose certificates it is about.
        number: rises with every list of this issuer.
        revoked: what was revoked and has not yet expired.
        now: time of issue.

    Returns:
        The list, DER.
    """
    builder = x509.CertificateRevocationListBuilder()
    builder = builder.issuer_name(issuer.certificate.subject).last_update(now).next_update(now + CRL_LIFETIME)
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    builder = builder.add_extension(_authority_key(issuer), critical=False)
    for line in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(line.serial).revocation_date(line.at)
        if line.reason is not x509.ReasonFlags.unspecified:  # RFC 5280, 5.3.1: left out rather than said
            entry = entry.add_extension(x509.CRLReason(line.reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    digest = hashes.SHA384() if issuer.kind is IssuerKind.ROOT else hashes.SHA256()
    return builder.sign(load_key(issuer.key), digest).public_bytes(Encoding.DER)


def restore(kind: IssuerKind, certificate: bytes, key: Secret, root: bytes | None = None) -> Authority:
    """Put an authority together again from what was kept.

    Raises:
        CertificateDamagedError: the certificate cannot be read.
        IssuerError: the key is another certificate's.
    """
    own = load_certificate(certificate)
    authority = Authority(kind, own, key, own)
    if root is not None:
        authority = replace(authority, root=load_certificate(root))
    if load_key(key).public_key() != own.public_key():
        raise IssuerError(f"the private key does not belong to the certificate of the '{kind}' authority")
    return authority


def load_certificate(data: bytes) -> x509.Certificate:
    """Read a certificate from DER, bounded.

    Raises:
        CertificateDamagedError: too long, malformed, or something follows it.
    """
    if len(data) > MAX_CERTIFICATE_BYTES:
        raise CertificateDamagedError(f"a certificate of {len(data)} bytes is too long")
    try:
        certificate = x509.load_der_x509_certificate(data)
        _ = certificate.extensions  # parsed late otherwise, far from here
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise CertificateDamagedError("a certificate cannot be read") from error
    return certificate


def to_der(certificate: x509.Certificate) -> bytes:
    """Write a certificate as DER."""
    return certificate.public_bytes(Encoding.DER)


def new_serial(entropy: Entropy) -> int:
    """Draw a serial number: positive, not zero, with 126 random bits (RFC 5280 wants it hard to guess)."""
    drawn = bytearray(entropy.bytes(SERIAL_BYTES))
    drawn[0] = (drawn[0] & 0x7F) | 0x40
    return int.from_bytes(drawn, "big")


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime,
    not_after: datetime,
    entropy: Entropy,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(new_serial(entropy))
        .not_valid_before(now - BACKDATE)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _as_ca(builder: x509.CertificateBuilder, *, path_length: int) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return builder.add_extension(_usage(signs_certificates=True), critical=True)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(issuer: Authority) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _alternative_names(subject: Subject) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = [x509.UniformResourceIdentifier(names.host_uri(subject.home, subject.host))]
    if subject.primary_of is not None:
        found.append(x509.UniformResourceIdentifier(names.primary_uri(subject.primary_of)))
    found += [x509.DNSName(name) for name in subject.names.dns]
    found += [x509.IPAddress(address) for address in subject.names.addresses]
    return found


def _within(issuer: x509.Certificate, now: datetime, wanted: datetime) -> datetime:
    """Cut a lifetime to the issuer's: nobody would accept the rest of it."""
    if now >= issuer.not_valid_after_utc:
        raise IssuerError(
            f"the certificate of the issuer ended on {issuer.not_valid_after_utc:%Y-%m-%d}",
            hint="make a new issuer, or a new root, before anything else is issued",
        )
    return min(wanted, issuer.not_valid_after_utc)


def _name(domain: str, role: str, public: ec.EllipticCurvePublicKey) -> x509.Name:
    # The end of the key's digest tells a root from its successor, which has the same name.
    mark = x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()[:8]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, domain[:MAX_COMMON_NAME]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"strongroom {role} {mark}"),
        ]
    )
