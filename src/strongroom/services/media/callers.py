"""Who is at the other end of a connection, and whether it may be.

TLS has verified the chain against the own domain's root; here the certificate is asked whose it is, and the
revocation lists whether it still counts. They come with each answer to a beat and are kept over a restart.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web
from cryptography import x509

from strongroom.core.clock import Clock
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId, to_text
from strongroom.kms import durable
from strongroom.pki.ca import load_certificate, to_der
from strongroom.pki.crl import MAX_CRL_BYTES, CRLStore
from strongroom.pki.errors import CertificateDamagedError, CRLOlderError, UnknownIssuerError
from strongroom.pki.names import CertificateIdentity, read_identity
from strongroom.pki.tls import peer_certificate
from strongroom.services.line import watch_line
from strongroom.services.media.clients import Caller
from strongroom.services.media.errors import NotForeignError, NotOurClientError, NotOurPrimaryError

logger = logging.getLogger(__name__)


class Callers:
    """Tells who calls.

    Args:
        domain: the own domain.
        roots: of the own domain.
        folder: where the revocation lists are kept.
        clock: for what has lapsed.
    """

    def __init__(self, domain: DomainId, roots: Sequence[x509.Certificate], folder: Path, clock: Clock) -> None:
        self._domain = domain
        self._roots = tuple(roots)
        self._folder = folder
        self._crls = CRLStore(clock)

    def trust(self, issuers: Sequence[bytes]) -> None:
        """Take issuers of the own domain, and the lists of theirs that were kept.

        Args:
            issuers: certificates, DER; one that no root of the domain signed is left out.
        """
        for data in issuers:
            try:
                issuer = load_certificate(data)
                self._crls.trust(issuer, self._root_of(issuer))
            except (CertificateDamagedError, UnknownIssuerError) as error:
                logger.warning(
                    "an issuer is not trusted: %s",
                    error.message,
                    extra={"event": "issuer-refused", "code": error.code},
                )
        for path in sorted(self._folder.glob("*.crl")):
            with path.open("rb") as file:
                data = file.read(MAX_CRL_BYTES + 1)
            try:
                self._crls.accept(data)
            except StrongroomError as error:
                logger.warning(
                    "a kept revocation list is of no use: %s",
                    error.message,
                    extra={"event": "crl-refused", "code": error.code},
                )

    def take_lists(self, lists: list[bytes]) -> None:
        """Take revocation lists, and keep those that are new.

        Raises:
            CRLDamagedError, UnknownIssuerError: one is not of an issuer of this domain.
        """
        for data in lists:
            try:
                self._crls.accept(data)
            except CRLOlderError:
                continue  # an answer that was under way when a newer one came
        durable.make_folder(self._folder)
        for held in self._crls.lists():
            path = self._folder / f"{_issuer_of(held.data)}.crl"
            if not path.exists() or path.read_bytes() != held.data:
                durable.replace_file(path, held.data)

    def our_primary(self, request: web.Request) -> CertificateIdentity:
        """Tell that the own domain's primary calls.

        Raises:
            NoCertificateError, RevokedError, CRLMissingError, CRLExpiredError: nobody can say who calls.
            NotOurPrimaryError: somebody else does.
        """
        identity = self._identify(request)
        if identity.home != self._domain or identity.primary_of != self._domain:
            raise NotOurPrimaryError("only the primary of this domain gives work to its media servers")
        return identity

    def foreign(self, request: web.Request) -> CertificateIdentity:
        """Tell which host of another domain calls; what it may do the primary says.

        Raises:
            NoCertificateError, RevokedError, CRLMissingError, CRLExpiredError: nobody can say who calls.
            NotForeignError: it is a host of this domain.
        """
        identity = self._identify(request)
        if identity.home == self._domain:
            raise NotForeignError("images are not replicated within one domain")
        return identity

    def client(self, request: web.Request) -> Caller:
        """Tell which host of this domain brings a grant; whether it is a client, and the grant's, the primary says.

        Raises:
            NoCertificateError, RevokedError, CRLMissingError, CRLExpiredError: nobody can say who calls.
            NotOurClientError: it is no host of this domain, or its primary.
        """
        identity = self._identify(request)
        if identity.home != self._domain or identity.primary_of is not None:
            raise NotOurClientError(f"the host '{to_text(identity.host)}' is no client of this domain")
        if request.transport is not None:
            watch_line(request.transport.get_extra_info("socket"))
        return Caller(identity.host, to_der(_certificate_of(request)), self.check_of(request))

    def check_of(self, request: web.Request) -> Callable[[], None]:
        """Give a check that the caller's certificate still counts, good also for what it sent before it hung up.

        The check raises RevokedError, CRLMissingError or CRLExpiredError.

        Raises:
            NoCertificateError: the caller showed none.
        """
        certificate = _certificate_of(request)
        return lambda: self._crls.check(certificate)

    def _root_of(self, issuer: x509.Certificate) -> x509.Certificate:
        for root in self._roots:
            if root.subject == issuer.issuer:
                return root
        raise UnknownIssuerError("no root of this domain signed the issuer")

    def _identify(self, request: web.Request) -> CertificateIdentity:
        certificate = _certificate_of(request)
        self._crls.check(certificate)
        return read_identity(certificate)


def _certificate_of(request: web.Request) -> x509.Certificate:
    transport = request.transport
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object") if transport else None
    return load_certificate(peer_certificate(tls))


def _issuer_of(crl: bytes) -> str:
    extension = x509.load_der_x509_crl(crl).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    return (extension.value.key_identifier or b"").hex()
