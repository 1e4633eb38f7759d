"""The body of a request, read from its connection by the thread that uses it (:mod:`~.taken_line`).

The client asks first (``Expect: 100-continue``), so that nothing of the body has come before the thread reads.
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
from strongroom.services import chunks
from strongroom.services.media.taken_line import TakenLine

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
        self._line: TakenLine | None = None

    @staticmethod
    def is_possible(request: web.Request) -> bool:
        """Tell whether a client waits for the word to send a body in chunks, and no request behind it."""
        return (
            TakenLine.is_possible(request)
            and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
            and request.headers.get(hdrs.TRANSFER_ENCODING, "").lower() == "chunked"
            and not request.keep_alive
        )

    def __enter__(self) -> Self:
        """Take the connection, and tell the client to send.

        Raises:
            ConnectionResetError: the client closed it.
            NoDescriptorError: the system has no descriptor left.
        """
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client closed the connection")
        self._line = TakenLine(transport)
        transport.write(_CONTINUE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back for the answer."""
        line, transport, content = self._line, self._request.transport, self._request.content
        if line is None:
            return
        if transport is None or transport.is_closing() or line.is_local:
            line.let_go()
            content.feed_eof()
        elif error is None:
            content.feed_eof()
            line.give_back()  # the end of the connection comes
        else:
            # A connection that ends with something unread is reset, and the answer lost: aiohttp waits for the end.
            line.socket.setblocking(False)
            task = asyncio.ensure_future(_discard(line.socket, transport))
            _discarding.add(task)
            task.add_done_callback(_discarding.discard)
            task.add_done_callback(lambda _: content.feed_eof())

    def interrupt(self) -> None:
        """Let the thread that reads find the end of the connection, which nobody uses any more."""
        if self._line is not None:
            self._line.interrupt()

    def pieces(self) -> Iterator[memoryview]:
        """Give the body in pieces of up to a mebibyte, which all lie in the same memory: use each before the next.

        Raises:
            ConnectionError: the client went away before its end.
            BadStreamError: it is not in chunks.
        """
        if self._line is None:
            raise ValueError("the body was not entered")
        raw = self._line.socket.makefile("rb", buffering=0) if self._line.tls is None else self._line.tls
        with io.BufferedReader(raw) as file:
            try:
                yield from chunks.read(file, bytearray(PIECE_BYTES))
            except chunks.NotInChunksError as error:
                raise BadStreamError(f"the client sent {error}") from error


async def _discard(line: socket.socket, transport: asyncio.Transport) -> None:
    """Read what a client still sends, until it has seen the answer and goes away."""
    loop = asyncio.get_running_loop()
    into = bytearray(_DISCARDED_BYTES)
    with line, contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while await loop.sock_recv_into(line, into):
                pass
    transport.abort()
