"""The body of an upload, in chunks: over any connection, or over a socket of this host without a copy."""

from __future__ import annotations

import http.client
import select
import socket
import struct
from collections.abc import Mapping
from typing import Final

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SO_SNDBUFFORCE: Final = 32
"""Linux: without the system's bound, for those who administer the network. The library has no name for it."""
_ROOM_BYTES: Final = 4 << 20
_STATUS_BYTES: Final = len("HTTP/1.1 100")


class ChunkedBody:
    """A body that is sent as it is made.

    Args:
        connection: on which the request was begun.
    """

    headers: Mapping[str, str] = {"Transfer-Encoding": "chunked"}

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._answers = select.poll()
        self._answers.register(connection.sock, select.POLLIN)

    def is_wanted(self) -> bool:
        """Tell whether the server reads on; one that will not says so at once, and the rest would be sent in vain.

        Raises:
            OSError: the connection broke.
        """
        return not self._answers.poll(0)

    def send(self, block: bytes) -> None:
        """Send a piece, which is not empty.

        Raises:
            OSError: the connection broke.
        """
        self._connection.send(b"%x\r\n%b\r\n" % (len(block), block))

    def end(self) -> None:
        """Send the end.

        Raises:
            OSError: the connection broke.
        """
        self._connection.send(b"0\r\n\r\n")


class LocalBody(ChunkedBody):
    """A body for a server of this host, which says when it may come, and reads it from the socket by itself.

    Args:
        connection: over a Unix socket; its timeout is how long the server may take nothing.
    """

    headers: Mapping[str, str] = {"Transfer-Encoding": "chunked", "Expect": "100-continue", "Connection": "close"}

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        super().__init__(connection)
        self._socket: socket.socket = connection.sock
        self._has_begun = False

    def is_wanted(self) -> bool:
        """Wait for the word to begin, the first time; then as above."""
        if not self._has_begun:
            if self._socket.recv(_STATUS_BYTES, socket.MSG_PEEK) != _CONTINUE[:_STATUS_BYTES]:
                return False
            if self._socket.recv(len(_CONTINUE)) != _CONTINUE:
                raise ConnectionError("it says that the body may come, and something else")
            self._has_begun = True
            _make_room(self._socket)
            # The kernel waits instead of the interpreter, which would ask it about every piece of 200 kB.
            limit = struct.pack("@ll", int(self._socket.gettimeout() or 0), 0)
            self._socket.settimeout(None)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        return super().is_wanted()

    def send(self, block: bytes) -> None:
        """Send a piece as it lies in memory."""
        rest = [memoryview(b"%x\r\n" % len(block)), memoryview(block), memoryview(b"\r\n")]
        while rest:
            sent = self._socket.sendmsg(rest)
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if rest:
                rest[0] = rest[0][sent:]


def _make_room(connection: socket.socket) -> None:
    """Let some blocks be under way, so that both sides work at once; the system may grant less."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ROOM_BYTES)
    except PermissionError:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM_BYTES)
