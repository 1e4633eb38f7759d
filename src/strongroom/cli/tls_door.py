"""The way to a media server on another host: TLS, with certificates on both sides."""

from __future__ import annotations

import hashlib
import http.client
import ssl
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from strongroom.cli.api_client import UnreachableServerError, read_json
from strongroom.core.errors import AuthenticationError
from strongroom.core.ids import HostId
from strongroom.pki.channel import Address
from strongroom.pki.errors import RevokedError
from strongroom.pki.tls import check_server, explain, peer_certificate
from strongroom.services.line import watch_line

CONNECT_SECONDS: Final = 20.0
HELLO: Final = "/v1/hello"


class CertificateRefusedError(AuthenticationError):
    """The media server broke off the connection because of the certificate that this host showed."""

    code = "cli.certificate-refused"
    default_hint = (
        "look at the client's certificate with 'strongroom host show', and at the clocks of both hosts;"
        " a reissue token gives the client another one ('strongroom host enrol --again')"
    )


@dataclass(frozen=True)
class TLSDoor:
    """The listener of a media server on another host.

    Args:
        address: where.
        context: TLS, with the client's certificate, and the root of the domain as it was pinned.
        host: the media server's id.
        certificates: those of its own that count, SHA-256 in hexadecimal, as the primary has just said.
    """

    address: Address
    context: ssl.SSLContext
    host: HostId
    certificates: Collection[str]
    is_local: bool = False

    def open(self, timeout: float) -> http.client.HTTPConnection:
        """Open a connection over TLS; each side has seen who the other is when this returns.

        Raises:
            UnreachableServerError: nobody answers, or too slowly.
            WrongNameError, ExpiredError, NotYetValidError, ChainError: the server's certificate is refused.
            RevokedError: it does not count any more; or, as the server says, this client's does not.
            CertificateRefusedError: the server does not take this client's certificate.
            StrongroomError: what else it refuses with.
        """
        connection = _TLSConnection(self)
        with ExitStack() as undo:
            undo.callback(connection.close)
            try:
                connection.connect()
                self._greet(connection)
            except ssl.SSLCertVerificationError as error:
                raise explain(error, str(self.address)) from error
            except OSError as error:
                raise UnreachableServerError(
                    f"no media server answers at '{self.address}': {error}",
                    hint="check that the media server runs, and that this host may reach its address and port",
                ) from error
            undo.pop_all()  # each side knows the other
        connection.timeout = timeout
        connection.sock.settimeout(timeout)
        return connection

    def check(self, certificate: bytes) -> None:
        """Look whether a verified server is the one that is meant.

        Raises:
            WrongNameError: it is another host of the domain.
            RevokedError: its certificate is not in use.
        """
        check_server(certificate, host=self.host)
        if hashlib.sha256(certificate).hexdigest() not in self.certificates:
            raise RevokedError(
                f"the certificate of the media server at '{self.address}' is not one that its domain has in use",
                hint="somebody may hold a key that was revoked: find out who listens there; then run this again",
            )

    def _greet(self, connection: http.client.HTTPConnection) -> None:
        """Hear from the server that it takes this client.

        In TLS 1.3 a client has done its handshake before the server looks at its certificate; a server that refuses it
        hangs up, with an alert or without, and what was sent meanwhile is lost.
        """
        try:
            connection.request("GET", HELLO)
            response = connection.getresponse()
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise CertificateRefusedError(
                f"the media server at '{self.address}' hung up when it saw the certificate of this host"
            ) from error
        read_json(response)


class _TLSConnection(http.client.HTTPSConnection):
    """HTTPS to one media server; nothing is sent before it has shown that it is the one."""

    def __init__(self, door: TLSDoor) -> None:
        super().__init__(door.address.host, door.address.port, timeout=CONNECT_SECONDS, context=door.context)
        self._check = door.check

    def connect(self) -> None:
        """Connect, and look whose certificate is shown."""
        super().connect()
        with ExitStack() as undo:
            undo.callback(self.close)
            self._check(peer_certificate(self.sock))
            watch_line(self.sock)
            undo.pop_all()
