"""A TLS connection to a primary for the few small requests that are made before and beside the peer protocol.

Synchronous, over the standard library's HTTP: callers are commands and start-up code. Every answer is
bounded in length, and the whole exchange in time, because the other end may not be what it says.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Final, TypeVar

import msgspec

from strongroom.core.errors import InputError, StrongroomError
from strongroom.core.ids import DomainId
from strongroom.pki import errors, messages
from strongroom.pki.crl import CRLStore
from strongroom.pki.errors import NotStrongroomError, UnreachableError
from strongroom.pki.tls import check_server, explain, peer_certificate

DEADLINE: Final = timedelta(seconds=20)
DEFAULT_PORT: Final = 8710
"""Of a primary's peer listener."""
_ADDRESS: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]/@\s]+))(?::(?P<port>[0-9]{1,5}))?")

T = TypeVar("T")


class AddressError(InputError):
    """What was given as an address is none."""

    code = "pki.bad-address"
    default_hint = "give HOST:PORT, an IPv6 address in brackets: [2001:db8::1]:8710"


@dataclass(frozen=True)
class Address:
    """Where a primary listens."""

    host: str
    port: int = DEFAULT_PORT

    @classmethod
    def read(cls, text: str) -> Address:
        """Read ``HOST``, ``HOST:PORT`` or ``[IPv6]:PORT``.

        Raises:
            AddressError: it is none of these.
        """
        found = _ADDRESS.fullmatch(text) if len(text) <= 300 else None
        if found is None:
            raise AddressError(f"'{text[:300]}' is not an address")
        port = int(found["port"] or DEFAULT_PORT)
        if not 0 < port < 65_536:
            raise AddressError(f"{port} is not a port")
        return cls(found["six"] or found["name"], port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Channel:
    """An open connection; made by :func:`open_channel`, and to be closed."""

    def __init__(self, address: Address, connection: ssl.SSLSocket, deadline: timedelta) -> None:
        self._address = address
        self._tls = connection
        self._deadline = deadline
        self._http = http.client.HTTPConnection(address.host, address.port)
        self._http.sock = connection
        self._http.auto_open = 0  # a lost connection must not be made again without TLS

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    @property
    def server_certificate(self) -> bytes:
        """The certificate that the server showed, DER."""
        return peer_certificate(self._tls)

    def get(self, path: str, *, max_bytes: int = messages.MAX_MESSAGE_BYTES) -> bytes:
        """Fetch; see :meth:`_exchange`."""
        return self._exchange("GET", path, None, max_bytes)

    def post(self, path: str, message: msgspec.Struct) -> bytes:
        """Send a message and give the answer; see :meth:`_exchange`."""
        return self._exchange("POST", path, messages.encode(message), messages.MAX_MESSAGE_BYTES)

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, content_type: str, max_bytes: int
    ) -> tuple[int, bytes]:
        """Do one request whose answer the caller reads, refusals too.

        Returns:
            HTTP status and body.

        Raises:
            UnreachableError: the connection broke, or took too long.
            NotStrongroomError: the answer is not HTTP, or too long.
        """

        def talk() -> tuple[int, bytes]:
            headers = {"Content-Type": content_type} if body is not None else {}
            self._http.request(method, path, body=body, headers=headers)
            response = self._http.getresponse()
            return response.status, response.read(max_bytes + 1)

        status, answer = _within(self._tls, self._deadline, self._address, talk)
        if len(answer) > max_bytes:
            raise NotStrongroomError(f"'{self._address}' answered with more than {max_bytes} bytes")
        return status, answer

    def _exchange(self, method: str, path: str, body: bytes | None, max_bytes: int) -> bytes:
        """Do one request.

        Raises:
            StrongroomError: what the primary refused with, as the same error.
            UnreachableError: the connection broke, or took too long.
            NotStrongroomError: the answer is not HTTP, too long, or an error without a code.
        """
        status, answer = self.ask(method, path, body, content_type="application/json", max_bytes=max_bytes)
        if status != http.HTTPStatus.OK:
            raise _refusal(self._address, status, answer)
        return answer


def open_channel(
    address: Address,
    context: ssl.SSLContext,
    *,
    primary_of: DomainId | None = None,
    crls: CRLStore | None = None,
    deadline: timedelta = DEADLINE,
) -> Channel:
    """Connect, do the TLS handshake, and check that the server is the one that was meant.

    Args:
        address: where to.
        context: from :mod:`strongroom.pki.tls`.
        primary_of: the server must be this domain's primary; None only for an unverified connection.
        crls: lists of that domain; None only before the first could be fetched.
        deadline: for the connection, and for each exchange over it.

    Raises:
        UnreachableError: nobody there, or the connection broke.
        NotStrongroomError: what is there does not speak TLS 1.3.
        WrongNameError, ExpiredError, NotYetValidError, ChainError: its certificate is refused.
        NotThePrimaryError: it is another host of the domain.
        RevokedError, CRLMissingError, CRLExpiredError: as the lists say.
    """
    try:
        plain = socket.create_connection((address.host, address.port), timeout=deadline.total_seconds())
    except OSError as error:
        raise UnreachableError(f"'{address}' cannot be reached: {error.strerror or error}") from error
    try:
        secured = _within(plain, deadline, address, lambda: context.wrap_socket(plain, server_hostname=address.host))
    except StrongroomError:
        plain.close()
        raise
    try:
        if primary_of is not None:
            check_server(peer_certificate(secured), primary_of=primary_of, crls=crls)
    except StrongroomError:
        secured.close()
        raise
    return Channel(address, secured, deadline)


def _within(connection: socket.socket, limit: timedelta, address: Address, talk: Callable[[], T]) -> T:
    """Do something with a connection in limited time, whatever the other end does to draw it out."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        try:
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        except OSError:
            return  # gone already, which is what was wanted

    timer = threading.Timer(limit.total_seconds(), cut)
    timer.daemon = True
    timer.start()
    try:
        return talk()
    except ssl.SSLCertVerificationError as error:
        raise explain(error, str(address)) from error
    except (ssl.SSLError, http.client.HTTPException, OSError) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            raise UnreachableError(f"'{address}' did not finish its answer in time") from error
        if isinstance(error, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError):
            raise UnreachableError(f"'{address}' closed the connection") from error
        raise NotStrongroomError(f"'{address}' does not speak our protocol: {first_words(str(error))}") from error
    finally:
        timer.cancel()


def _refusal(address: Address, status: int, answer: bytes) -> StrongroomError:
    try:
        problem = messages.decode(answer, messages.Problem)
    except msgspec.DecodeError:
        return NotStrongroomError(f"'{address}' answered with HTTP status {status}")
    kind = errors.BY_CODE.get(problem.code)
    detail = first_words(problem.detail or problem.code)
    if kind is None:
        told = f"'{address}' refused with '{first_words(problem.code)}': {detail}"
        return errors.RemoteError(told, hint=first_words(problem.hint))
    return kind(detail, hint=first_words(problem.hint))


def first_words(text: str) -> str:
    """Make a stranger's words fit to be shown: one line, printable, short."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:300]).strip()
