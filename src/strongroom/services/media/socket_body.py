"""The body of a request, read from its socket by the thread that uses it.

A gibibyte that the event loop reads is copied four times, and takes turns with the job's thread for the interpreter at
every one of some ten thousand reads. So the loop leaves the socket of a client alone until its body has ended:
the client asks first (``Expect: 100-continue``), so that nothing of the body has come before the thread reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from aiohttp import hdrs, web

from strongroom.images.errors import BadStreamError
from strongroom.pki.tls import OpenConnection
from strongroom.services import chunks
from strongroom.services.media.tls_stream import TLSStream

PIECE_BYTES: Final = 1 << 20
_DISCARDED_BYTES: Final = 256 << 10
_DISCARD_SECONDS: Final = 5.0
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


_discarding: Final[set[asyncio.Future[None]]] = set()
"""Tasks that nobody else holds: the loop would forget them."""


async def ask_handler(_request: web.Request) -> None:
    """Leave it to the handler to say that the body may come; for ``expect_handler`` of a route."""


async def let_come(request: web.Request) -> None:
    """Say that the body may come, if the client waits for that."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0  # of the answer, nothing was sent


class SocketBody:
    """A body in chunks that has not begun to come; while it is entered, nobody else reads the connection.

    Args:
        request: of a client that waits for the word (:meth:`is_possible`).
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._line: socket.socket | None = None
        self._file: io.RawIOBase | None = None

    @staticmethod
    def is_possible(request: web.Request) -> bool:
        """Tell whether a client waits for the word to send a body in chunks, and no request behind it."""
        transport = request.transport
        return (
            transport is not None
            and isinstance(transport.get_extra_info("ssl_object"), OpenConnection | None)
            and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
            and request.headers.get(hdrs.TRANSFER_ENCODING, "").lower() == "chunked"
            and not request.keep_alive
        )

    def __enter__(self) -> Self:
        """Take the socket, and tell the client to send."""
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client closed the connection")
        self._line = transport.get_extra_info("socket").dup()
        transport.write(_CONTINUE)
        transport.pause_reading()
        connection = transport.get_extra_info("ssl_object")
        if connection is not None:
            _limit(transport, 0)  # what is below TLS is paused too, at once
        self._line.settimeout(None)
        self._file = self._line.makefile("rb", buffering=0) if connection is None else TLSStream(connection, self._line)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back for the answer."""
        line, transport, content = self._line, self._request.transport, self._request.content
        if line is None:
            return
        line.setblocking(False)  # both descriptors have one mode
        if transport is None or transport.is_closing() or line.family == socket.AF_UNIX:
            line.close()
            content.feed_eof()
        elif error is None:
            line.close()
            content.feed_eof()
            _limit(transport, None)
            transport.resume_reading()  # the end of the connection
        else:
            # A connection that ends with something unread is reset, and the answer lost: aiohttp waits for the end.
            task = asyncio.ensure_future(_discard(line, transport))
            _discarding.add(task)
            task.add_done_callback(_discarding.discard)
            task.add_done_callback(lambda _: content.feed_eof())

    def interrupt(self) -> None:
        """Let the thread that reads find the end of the connection, which nobody uses any more."""
        if self._line is not None:
            with contextlib.suppress(OSError):  # the client was faster
                self._line.shutdown(socket.SHUT_RDWR)
        if self._request.transport is not None:
            self._request.transport.abort()  # no word of farewell: TLS may be in use by the thread

    def pieces(self) -> Iterator[memoryview]:
        """Give the body in pieces of up to a mebibyte, which all lie in the same memory: use each before the next.

        Raises:
            ConnectionError: the client went away before its end.
            BadStreamError: it is not in chunks.
        """
        if self._file is None:
            raise ValueError("the body was not entered")
        with io.BufferedReader(self._file) as file:
            try:
                yield from chunks.read(file, bytearray(PIECE_BYTES))
            except chunks.NotInChunksError as error:
                raise BadStreamError(f"the client sent {error}") from error


def _limit(transport: asyncio.Transport, most_bytes: int | None) -> None:
    """Say how much may come over TLS before it is read; with 0, reading stops at once."""
    transport.set_read_buffer_limits(most_bytes)  # type: ignore[attr-defined]  # of transports over TLS


async def _discard(line: socket.socket, transport: asyncio.Transport) -> None:
    """Read what a client still sends, until it has seen the answer and goes away."""
    loop = asyncio.get_running_loop()
    into = bytearray(_DISCARDED_BYTES)
    with line, contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while await loop.sock_recv_into(line, into):
                pass
    transport.abort()
