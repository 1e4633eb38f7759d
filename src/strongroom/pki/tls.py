"""TLS between hosts: version 1.3 only, both sides with certificates, no tickets.

A listener trusts only the roots of its own domain: a caller shows the certificate that the called domain
issued, never one of the caller's own domain. A caller trusts only the root of the domain it calls. Nothing
here reads the machine's trust store.

One listener serves hosts that have a certificate and hosts that come to get one. TLS therefore asks for a
certificate and does not insist (``CERT_OPTIONAL``): one that does not verify still ends the handshake, and
:func:`peer_certificate` refuses its absence on every route but enrolment, the CA document and the revocation
lists.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from strongroom.core.ids import DomainId, HostId, to_text
from strongroom.core.secret import Secret
from strongroom.pki import names
from strongroom.pki.ca import load_certificate
from strongroom.pki.crl import CRLStore
from strongroom.pki.errors import (
    ChainError,
    ExpiredError,
    NoCertificateError,
    NotThePrimaryError,
    NotYetValidError,
    WrongNameError,
)
from strongroom.pki.keys import load_key


class _Refusal(IntEnum):
    """X509_V_ERR_*, from openssl/x509_vfy.h; Python has no names for them."""

    NOT_YET_VALID = 9
    EXPIRED = 10
    HOST_MISMATCH = 62
    ADDRESS_MISMATCH = 64


@dataclass(frozen=True)
class Credential:
    """What a host shows: its certificate, those between it and the root, and the private key.

    Args:
        chain: DER, the host's own first, without the root.
        key: PKCS #8, DER.
    """

    chain: tuple[bytes, ...]
    key: Secret


class OpenConnection(ssl.SSLObject):
    """A connection of a listener, and what it reads from and writes to.

    Attributes:
        incoming: ciphertext that came.
        outgoing: ciphertext that is to be sent.
    """

    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO


class _ListenerContext(ssl.SSLContext):
    """A context whose connections are :class:`OpenConnection`."""

    sslobject_class = OpenConnection

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Make the connection, for an event loop."""
        made = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if isinstance(made, OpenConnection):
            made.incoming, made.outgoing = incoming, outgoing
        return made


class ServerTLS:
    """The TLS side of a listener; certificates and roots can be exchanged while it runs.

    Args:
        credential: the listener's own.
        roots: roots of the listener's domain; two during a change of root.
    """

    def __init__(self, credential: Credential, roots: Sequence[x509.Certificate]) -> None:
        self._current = _server_context(credential, roots)
        self._front = _server_context(credential, roots)
        # Called for each new connection, with or without a server name, before certificates are looked at.
        self._front.sni_callback = self._choose

    @property
    def context(self) -> ssl.SSLContext:
        """What the listener is opened with; stays the same over :meth:`replace`."""
        return self._front

    def replace(self, credential: Credential, roots: Sequence[x509.Certificate]) -> None:
        """Serve new connections with these; open ones go on with what they began with."""
        self._current = _server_context(credential, roots)

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


def client_context(roots: Sequence[x509.Certificate], credential: Credential | None = None) -> ssl.SSLContext:
    """Make the TLS side of a caller, who checks chain and name; :func:`check_server` is next.

    Args:
        roots: of the domain that is called, and no other.
        credential: what the called domain issued; None only to enrol and to fetch what is public.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, roots)
    context.check_hostname = True
    context.verify_mode = ssl.CERT_REQUIRED
    if credential is not None:
        _load(context, credential)
    return context


def unverified_context() -> ssl.SSLContext:
    """Make the TLS side of the very first fetch of a root. Nobody vouches for it: send nothing over it."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, ())
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def peer_certificate(connection: ssl.SSLObject | ssl.SSLSocket | None) -> bytes:
    """Give the certificate that the other side showed, DER.

    Args:
        connection: in aiohttp, ``request.transport.get_extra_info("ssl_object")``; None when there is no TLS.

    Raises:
        NoCertificateError: it showed none.
    """
    shown = None if connection is None else connection.getpeercert(binary_form=True)
    if not shown:
        raise NoCertificateError("the caller showed no certificate")
    return shown


def check_server(
    certificate: bytes,
    *,
    primary_of: DomainId | None = None,
    host: HostId | None = None,
    crls: CRLStore | None = None,
) -> names.CertificateIdentity:
    """Check what a verified handshake leaves open: the server is the one meant, and not revoked.

    Args:
        certificate: the server's, DER, from :func:`peer_certificate`.
        primary_of: the server must be this domain's primary.
        host: the server must be this host.
        crls: lists of the called domain; None only before the first one could be fetched.

    Raises:
        NotThePrimaryError: its certificate does not say so.
        WrongNameError: it is another host.
        RevokedError, CRLMissingError, CRLExpiredError: see :meth:`CRLStore.check`.
    """
    parsed = load_certificate(certificate)
    identity = names.read_identity(parsed)
    if primary_of is not None and identity.primary_of != primary_of:
        raise NotThePrimaryError(
            f"the host '{to_text(identity.host)}' is not the primary of the domain '{primary_of.hex()}'"
        )
    if host is not None and identity.host != host:
        raise WrongNameError(f"the server is the host '{to_text(identity.host)}', not '{to_text(host)}'")
    if crls is not None:
        crls.check(parsed)
    return identity


def explain(
    error: ssl.SSLCertVerificationError, server: str
) -> ExpiredError | NotYetValidError | WrongNameError | ChainError:
    """Turn OpenSSL's refusal of a server's certificate into an error with a cure.

    Args:
        error: what the handshake raised.
        server: name and port that were called.
    """
    match error.verify_code:
        case _Refusal.HOST_MISMATCH | _Refusal.ADDRESS_MISMATCH:
            return WrongNameError(f"the certificate of '{server}' does not have this name")
        case _Refusal.EXPIRED:
            return ExpiredError(f"the certificate of '{server}' has expired")
        case _Refusal.NOT_YET_VALID:
            return NotYetValidError(f"the certificate of '{server}' is not yet valid")
        case _:
            return ChainError(f"the certificate of '{server}' is refused: {error.verify_message}")


def _server_context(credential: Credential, roots: Sequence[x509.Certificate]) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_SERVER, roots)
    context.verify_mode = ssl.CERT_OPTIONAL
    # A resumed session would bring back a peer that was revoked meanwhile.
    context.num_tickets = 0
    _load(context, credential)
    return context


def _context(protocol: int, roots: Sequence[x509.Certificate]) -> ssl.SSLContext:
    context = (_ListenerContext if protocol == ssl.PROTOCOL_TLS_SERVER else ssl.SSLContext)(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_TRUSTED_FIRST
    for root in roots:
        context.load_verify_locations(cadata=root.public_bytes(Encoding.DER))
    return context


def _load(context: ssl.SSLContext, credential: Credential) -> None:
    # OpenSSL, as Python wraps it, reads keys from files only: give it one that never was on a disk.
    pem = [load_key(credential.key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
    pem += [load_certificate(der).public_bytes(Encoding.PEM) for der in credential.chain]
    descriptor = os.memfd_create("strongroom-credential", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as memory:
        memory.write(b"".join(pem))
        memory.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
