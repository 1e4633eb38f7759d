"""Revocation lists as seen by a host: which certificates must not be believed, and until when it may say so.

The check is made here and not by OpenSSL, because a running TLS context cannot exchange a list for a newer
one, and because a connection that lives for days must be asked again with each request.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.core.clock import Clock
from strongroom.pki.errors import (
    CRLDamagedError,
    CRLExpiredError,
    CRLMissingError,
    CRLOlderError,
    ExpiredError,
    RevokedError,
    UnknownIssuerError,
)

MAX_CRL_BYTES: Final = 4 * 1024 * 1024
MAX_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class CRL:
    """A checked revocation list."""

    number: int
    last_update: datetime
    next_update: datetime
    serials: frozenset[int]
    data: bytes


class CRLStore:
    """The newest list of each issuer below the roots that this host trusts; safe to use from several threads.

    Args:
        clock: judges nextUpdate.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._issuers: dict[bytes, x509.Certificate] = {}
        self._lists: dict[bytes, CRL] = {}
        self._lock = threading.Lock()

    def trust(self, issuer: x509.Certificate, root: x509.Certificate) -> None:
        """Let an issuer's lists in, after its root vouched for it.

        Args:
            issuer: may be the root itself.
            root: pinned or received over a verified connection.

        Raises:
            UnknownIssuerError: the root did not sign the issuer.
        """
        if issuer != root:
            require_signed_by(issuer, root)
        with self._lock:
            self._issuers[_key_identifier(issuer)] = issuer

    def accept(self, data: bytes) -> CRL:
        """Take a list that was fetched or pushed; the newest stays.

        Args:
            data: DER, from anywhere.

        Raises:
            CRLDamagedError: too long, malformed, from the future, or the signature does not hold.
            UnknownIssuerError: no trusted issuer is named.
            CRLOlderError: a list with a higher number is here already.
        """
        parsed = _parse(data)
        identifier = _authority_identifier(parsed.extensions)
        issuer = self._issuers.get(identifier)
        if issuer is None:
            raise UnknownIssuerError("the revocation list is of an issuer that is not trusted here")
        fresh = _check(parsed, issuer, data, self._clock.now())
        with self._lock:
            held = self._lists.get(identifier)
            if held is not None and fresh.number < held.number:
                raise CRLOlderError(f"revocation list {fresh.number} came after list {held.number}")
            self._lists[identifier] = fresh
        return fresh

    def check(self, certificate: x509.Certificate) -> None:
        """Refuse a certificate that was revoked, that has ended, or of which nobody can tell.

        Raises:
            UnknownIssuerError: its issuer is not trusted here.
            ExpiredError: it ended; a connection that was opened before does not notice.
            CRLMissingError, CRLExpiredError: out of contact with the issuer for too long.
            RevokedError: it was revoked.
        """
        identifier = _authority_identifier(certificate.extensions)
        issuer = self._issuers.get(identifier)
        if issuer is None:
            raise UnknownIssuerError("the certificate is of an issuer that is not trusted here")
        require_signed_by(certificate, issuer)
        now = self._clock.now()
        # Lists name a revoked certificate only until some time after its end.
        if now >= certificate.not_valid_after_utc:
            raise ExpiredError(f"the certificate ended on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        held = self._lists.get(identifier)
        if held is None:
            raise CRLMissingError("there is no revocation list of the certificate's issuer")
        if now >= held.next_update:
            raise CRLExpiredError(f"revocation list {held.number} held until {held.next_update:%Y-%m-%d %H:%M} UTC")
        if certificate.serial_number in held.serials:
            raise RevokedError(f"the certificate {certificate.serial_number:x} was revoked")

    def lists(self) -> tuple[CRL, ...]:
        """Give the lists held, so that they can be kept over a restart and :meth:`accept` them again."""
        with self._lock:
            return tuple(self._lists.values())


def require_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """Check name and signature of one link of a chain.

    Raises:
        UnknownIssuerError: the issuer did not sign the certificate.
    """
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise UnknownIssuerError("the certificate was not signed by the issuer it names") from error


def _parse(data: bytes) -> x509.CertificateRevocationList:
    if len(data) > MAX_CRL_BYTES:
        raise CRLDamagedError(f"a revocation list of {len(data)} bytes is too long")
    try:
        parsed = x509.load_der_x509_crl(data)
        _ = parsed.extensions
    except (ValueError, x509.DuplicateExtension) as error:
        raise CRLDamagedError("the revocation list cannot be read") from error
    return parsed


def _check(parsed: x509.CertificateRevocationList, issuer: x509.Certificate, data: bytes, now: datetime) -> CRL:
    key = issuer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - our roots sign no others
    if parsed.issuer != issuer.subject or not parsed.is_signature_valid(key):
        raise CRLDamagedError("the signature of the revocation list does not hold")
    if parsed.next_update_utc is None:
        raise CRLDamagedError("the revocation list does not say until when it holds")
    if parsed.last_update_utc > now + MAX_SKEW:
        raise CRLDamagedError(f"the revocation list is of {parsed.last_update_utc:%Y-%m-%d %H:%M} UTC, in the future")
    try:
        number = parsed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound as error:
        raise CRLDamagedError("the revocation list has no number") from error
    serials = frozenset(line.serial_number for line in parsed)
    return CRL(number, parsed.last_update_utc, parsed.next_update_utc, serials, data)


def _key_identifier(issuer: x509.Certificate) -> bytes:
    return issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def _authority_identifier(extensions: x509.Extensions) -> bytes:
    try:
        identifier = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        identifier = None
    if identifier is None:
        raise UnknownIssuerError("its issuer is not named")
    return identifier
