"""Records in the bodies of HTTP requests between roles: reading and answering them in aiohttp, and asking."""

from __future__ import annotations

import http.client
import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from strongroom.core.errors import InputError, StrongroomError, UnavailableError, from_document, to_document
from strongroom.core.ids import DomainId
from strongroom.formats import records
from strongroom.pki.channel import Address
from strongroom.pki.errors import UnreachableError
from strongroom.pki.tls import check_server, peer_certificate
from strongroom.services import messages

logger = logging.getLogger(__name__)

CONTENT_TYPE: Final = messages.CONTENT_TYPE
PROBLEM_TYPE: Final = "application/problem+json"
TIMEOUT_SECONDS: Final = 60.0
KEPT_SECONDS: Final = 30.0
_READ_BYTES: Final = 65_536

T = TypeVar("T", bound=msgspec.Struct)


class TooLongError(InputError):
    """A request is longer than it may be."""

    code = "work.too-long"


class InternalError(StrongroomError):
    """A defect of the product; the log of the process that answered has the traceback."""

    code = "work.internal"
    default_hint = "look at the log of the host that answered"


async def read_body(request: web.Request, max_bytes: int = messages.MAX_RECORD_BYTES) -> bytes:
    """Read a body of bounded length.

    Raises:
        TooLongError: it is longer.
    """
    parts: list[bytes] = []
    length = 0
    async for part in request.content.iter_chunked(_READ_BYTES):
        length += len(part)
        if length > max_bytes:
            raise TooLongError(f"the request is longer than {max_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def answer(message: msgspec.Struct) -> web.Response:
    """Answer with a record."""
    return web.Response(body=messages.encode(message), content_type=CONTENT_TYPE)


def refusal(error: StrongroomError) -> web.Response:
    """Answer with an error."""
    return web.Response(
        status=error.http_status, body=msgspec.json.encode(to_document(error)), content_type=PROBLEM_TYPE
    )


@web.middleware
async def tell_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Tell errors of the product as problem documents; anything else is a defect, told without its words."""
    try:
        response: web.StreamResponse = await handler(request)
    except StrongroomError as error:
        return refusal(error)
    except web.HTTPException:
        raise
    except Exception as error:  # noqa: BLE001, RUF100 - the edge: what is not ours must not show itself to the caller
        if isinstance(error, ConnectionResetError) and (request.transport is None or request.transport.is_closing()):
            logger.info("the caller is gone", extra={"event": "caller-gone", "path": request.path})
            return web.Response()  # to nobody
        logger.exception("a request failed", extra={"event": "request-failed", "path": request.path})
        return refusal(InternalError(f"'{request.path}' failed"))
    return response


class RecordClient:
    """Asks another role of this domain, over connections that are kept for the next question. Safe for threads.

    Args:
        address: where it listens.
        context: TLS, with the certificate to show.
        domain: the domain that it must belong to.
        primary: whether it must be that domain's primary.
    """

    def __init__(self, address: Address, context: ssl.SSLContext, domain: DomainId, *, primary: bool) -> None:
        self._address = address
        self._context = context
        self._domain = domain
        self._primary = primary
        self._lock = threading.Lock()
        self._idle: deque[tuple[http.client.HTTPSConnection, float]] = deque()

    def ask(self, path: str, message: msgspec.Struct, kind: type[T], *, timeout: float = TIMEOUT_SECONDS) -> T:
        """Ask one question.

        Raises:
            UnreachableError: it does not answer.
            StrongroomError: what it refused with.
        """
        with self.stream(path, messages.encode(message), timeout=timeout) as response:
            body = response.read(messages.MAX_RECORD_BYTES + 1)
        return messages.decode(body, kind)

    def send(self, path: str, body: Iterator[bytes], kind: type[T], *, timeout: float = TIMEOUT_SECONDS) -> T:
        """Send a body of any length in pieces; raises as :meth:`ask` does."""
        with self.stream(path, body, timeout=timeout) as response:
            return messages.decode(response.read(messages.MAX_RECORD_BYTES + 1), kind)

    @contextmanager
    def stream(
        self, path: str, body: bytes | Iterator[bytes], *, timeout: float = TIMEOUT_SECONDS
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask, and give the response for reading; raises as :meth:`ask` does."""
        connection, response = self._request(path, body, timeout)
        is_spent = False
        try:
            if response.status != http.HTTPStatus.OK:
                raise _refused(response)
            yield response
            is_spent = not response.read(1)  # what the caller left unread is not read for its own sake
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"'{self._address}' does not answer: {error}") from error
        finally:
            if is_spent:
                self._keep(connection)
            else:
                connection.close()  # what is left of the answer is of no use to the next question

    def close(self) -> None:
        """Let go of the connections that are kept; the next question opens a new one."""
        with self._lock:
            while self._idle:
                self._idle.pop()[0].close()

    def _request(
        self, path: str, body: bytes | Iterator[bytes], timeout: float
    ) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        """Send a question over a kept connection, or a new one when the other side has let the kept one go."""
        kept = self._take_idle() if isinstance(body, bytes) else None
        for connection in (kept, None):
            if connection is None:
                connection = self._connect(timeout)
            elif connection.sock is not None:
                connection.sock.settimeout(timeout)
            try:
                connection.request(
                    "POST",
                    path,
                    body=body,
                    headers={"Content-Type": CONTENT_TYPE},
                    encode_chunked=not isinstance(body, bytes),
                )
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # A time-out does not tell that the question was not heard: asked again, it might be done twice.
                if connection is not kept or isinstance(error, TimeoutError):
                    raise UnreachableError(f"'{self._address}' does not answer: {error}") from error
            else:
                return connection, response
        raise UnreachableError(f"'{self._address}' does not answer")

    def _keep(self, connection: http.client.HTTPSConnection) -> None:
        """Keep a connection, and let go of those that nobody wanted for long: the last one kept is used first."""
        now = time.monotonic()
        with self._lock:
            while self._idle and now - self._idle[0][1] >= KEPT_SECONDS:
                self._idle.popleft()[0].close()
            self._idle.append((connection, now))

    def _take_idle(self) -> http.client.HTTPSConnection | None:
        with self._lock:
            while self._idle:
                connection, since = self._idle.pop()
                if time.monotonic() - since < KEPT_SECONDS:
                    return connection
                connection.close()
        return None

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(
            self._address.host, self._address.port, timeout=timeout, context=self._context
        )
        try:
            connection.connect()
            identity = check_server(
                peer_certificate(connection.sock), primary_of=self._domain if self._primary else None
            )
        except OSError as error:
            connection.close()
            raise UnreachableError(f"'{self._address}' cannot be reached: {error}") from error
        except StrongroomError:
            connection.close()
            raise
        if identity.home != self._domain:
            connection.close()
            raise UnreachableError(f"'{self._address}' belongs to another domain")
        return connection


def _refused(response: http.client.HTTPResponse) -> StrongroomError:
    body = response.read(_READ_BYTES)
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return UnavailableError(f"the other side answered with HTTP status {response.status} and no reason")
    return from_document(document if isinstance(document, dict) else {"status": response.status})


def lines_of(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Give the records of an answer that comes in pieces: each with a u32 length before it."""
    while True:
        front = response.read(4)
        if len(front) < 4:
            return
        length = int.from_bytes(front, "big")
        if length > messages.MAX_RECORD_BYTES:
            raise TooLongError("a piece of the answer is longer than it may be")
        yield response.read(length)


def piece(message: msgspec.Struct) -> bytes:
    """Write one piece of such an answer."""
    data = records.encode(message)
    return len(data).to_bytes(4, "big") + data
