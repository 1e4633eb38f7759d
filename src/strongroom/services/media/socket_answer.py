"""The body of an answer, written to its connection by the thread that makes it.

The way back of :mod:`strongroom.services.media.socket_body`, for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from aiohttp import HttpVersion11, web

from strongroom.services import chunks
from strongroom.services.media.taken_line import TakenLine


class SocketAnswer:
    """A body in chunks whose headers were sent; while it is entered, nobody else uses the connection.

    Its end is left to whoever prepared the answer.

    Args:
        request: that is answered, if :meth:`is_possible` says so.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._line: TakenLine | None = None

    @staticmethod
    def is_possible(request: web.Request) -> bool:
        """Tell whether a client has the headers, and asked in a version of HTTP that has chunks."""
        transport = request.transport
        if transport is None or request.version < HttpVersion11 or transport.get_write_buffer_size():
            return False
        return TakenLine.is_possible(request)

    def __enter__(self) -> Self:
        """Take the connection.

        Raises:
            ConnectionResetError: the client closed it.
            NoDescriptorError: the system has no descriptor left.
        """
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client closed the connection")
        self._line = TakenLine(transport)
        if self._line.is_local:
            chunks.make_room(self._line.socket)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back for the end."""
        if self._line is None:
            return
        if error is None:
            self._line.give_back()
        else:
            self._line.let_go()

    def interrupt(self) -> None:
        """Let the thread that writes find the end of the connection, which nobody uses any more."""
        if self._line is not None:
            self._line.interrupt()

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send pieces, each as a chunk.

        Raises:
            OSError: the client went away.
        """
        if self._line is None:
            raise ValueError("the answer was not entered")
        line = self._line.socket if self._line.tls is None else self._line.tls
        for piece in pieces:
            if piece:
                chunks.send(line, piece)
