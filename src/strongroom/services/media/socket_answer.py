"""The body of an answer to a client of this host, written to its socket by the thread that makes it.

The way back of :mod:`strongroom.services.media.socket_body`, for the same reason.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from aiohttp import HttpVersion11, web

from strongroom.services import chunks


class SocketAnswer:
    """A body in chunks whose headers were sent; while it is entered, nobody else uses the connection.

    Its end is left to whoever prepared the answer.

    Args:
        request: that is answered, if :meth:`is_possible` says so.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._line: socket.socket | None = None

    @staticmethod
    def is_possible(request: web.Request) -> bool:
        """Tell whether a client of this host asks, who has the headers, in a version of HTTP that has chunks."""
        transport = request.transport
        if transport is None or request.version < HttpVersion11 or transport.get_write_buffer_size():
            return False
        return bool(transport.get_extra_info("socket").family == socket.AF_UNIX)

    def __enter__(self) -> Self:
        """Take the socket."""
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client closed the connection")
        self._line = transport.get_extra_info("socket").dup()
        transport.pause_reading()
        chunks.make_room(self._line)
        self._line.settimeout(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back for the end."""
        line, transport = self._line, self._request.transport
        if line is None:
            return
        line.setblocking(False)  # both descriptors have one mode
        line.close()
        if error is None and transport is not None and not transport.is_closing():
            transport.resume_reading()

    def interrupt(self) -> None:
        """Let the thread that writes find the end of the connection, which nobody uses any more."""
        if self._line is not None:
            with contextlib.suppress(OSError):  # the client was faster
                self._line.shutdown(socket.SHUT_RDWR)

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send pieces, each as a chunk.

        Raises:
            OSError: the client went away.
        """
        if self._line is None:
            raise ValueError("the answer was not entered")
        for piece in pieces:
            if piece:
                chunks.send(self._line, piece)
