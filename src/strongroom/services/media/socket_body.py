"""The body of a request, read from its socket by the thread that uses it.

A gibibyte that the event loop reads is copied four times, and takes turns with the job's thread for the interpreter at
every one of some ten thousand reads. So the loop leaves the socket of a local client alone until its body has ended:
the client asks first (``Expect: 100-continue``), so that nothing of the body has come before the thread reads.
"""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from aiohttp import hdrs, web

from strongroom.images.errors import BadStreamError

PIECE_BYTES: Final = 1 << 20
_MOST_LINE_BYTES: Final = 16
_LENGTH: Final = re.compile(rb"[0-9A-Fa-f]{1,8}\r\n")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


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
        request: of a client on a Unix socket.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._socket: socket.socket | None = None

    @staticmethod
    def is_possible(request: web.Request) -> bool:
        """Tell whether a client of this host waits for the word to send a body in chunks, and no request behind it."""
        transport = request.transport
        return (
            transport is not None
            and transport.get_extra_info("socket").family == socket.AF_UNIX
            and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
            and request.headers.get(hdrs.TRANSFER_ENCODING, "").lower() == "chunked"
            and not request.keep_alive
        )

    def __enter__(self) -> Self:
        """Take the socket, and tell the client to send."""
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client closed the connection")
        transport.pause_reading()
        self._socket = transport.get_extra_info("socket").dup()
        self._socket.settimeout(None)
        transport.write(_CONTINUE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back for the answer."""
        if self._socket is not None:
            self._socket.setblocking(False)  # both descriptors have one mode
            self._socket.close()
        self._request.content.feed_eof()

    def interrupt(self) -> None:
        """Let the thread that reads find the end of the connection."""
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)

    def pieces(self) -> Iterator[memoryview]:
        """Give the body in pieces of up to a mebibyte, each in memory of its own.

        Raises:
            ConnectionError: the client went away before its end.
            BadStreamError: it is not in chunks.
        """
        if self._socket is None:
            raise ValueError("the body was not entered")
        with io.BufferedReader(self._socket.makefile("rb", buffering=0)) as file:
            while length := _length(file.readline(_MOST_LINE_BYTES)):
                while length:
                    piece = memoryview(bytearray(min(length, PIECE_BYTES)))
                    if file.readinto(piece) != len(piece):
                        raise ConnectionResetError("the client closed the connection")
                    length -= len(piece)
                    yield piece
                _end_line(file.readline(_MOST_LINE_BYTES))
            _end_line(file.readline(_MOST_LINE_BYTES))


def _length(line: bytes) -> int:
    """Read the line before a chunk: its length, hexadecimal."""
    _check_line(line)
    if _LENGTH.fullmatch(line) is None:
        raise BadStreamError("the client sent a body that is not in chunks")
    return int(line[:-2], 16)


def _end_line(line: bytes) -> None:
    _check_line(line)
    if line != b"\r\n":
        raise BadStreamError("the client sent a chunk of another length than it said")


def _check_line(line: bytes) -> None:
    if not line.endswith(b"\n") and len(line) < _MOST_LINE_BYTES:
        raise ConnectionResetError("the client closed the connection")
