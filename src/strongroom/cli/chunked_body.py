"""The body of an upload, in chunks: over any connection, or over a socket of this host without a copy."""

from __future__ import annotations

import http.client
import io
import select
import socket
import struct
from collections.abc import Mapping
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, Final

from strongroom.services import chunks

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ChunkedBody:
    """A body that is sent as it is made, once the server has said that it may come.

    The server then reads it from the socket by itself, and this connection is of no use for another request.

    Args:
        connection: on which the request was begun.
    """

    headers: Mapping[str, str] = {"Transfer-Encoding": "chunked", "Expect": "100-continue", "Connection": "close"}

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._socket: socket.socket = connection.sock
        self._answers = select.poll()
        self._answers.register(self._socket, select.POLLIN)
        self._has_begun = False

    def is_wanted(self) -> bool:
        """Wait for the word to begin, the first time; then tell whether the server reads on.

        One that will not says so at once, and the rest would be sent in vain.

        Raises:
            OSError: the connection broke.
        """
        if not self._has_begun:
            answer = self._socket.makefile("rb")
            said = b""
            while _CONTINUE.startswith(said) and said != _CONTINUE and (byte := answer.read(1)):
                said += byte
            if said == _CONTINUE:
                self._has_begun = True
                self.begin()
                said = b""
            self._connection.response_class = _Answer(said, answer).response  # type: ignore[assignment]
            if not self._has_begun:
                return False
        return not self._answers.poll(0)

    def begin(self) -> None:
        """Make ready to send."""

    def send(self, block: bytes | memoryview) -> None:
        """Send a piece, which is not empty.

        Raises:
            OSError: the connection broke.
        """
        self._socket.sendall(b"%x\r\n" % len(block))
        self._socket.sendall(block)
        self._socket.sendall(b"\r\n")

    def end(self) -> None:
        """Send the end.

        Raises:
            OSError: the connection broke.
        """
        self._socket.sendall(chunks.END)


class LocalBody(ChunkedBody):
    """A body for a server of this host.

    Args:
        connection: over a Unix socket; its timeout is how long the server may take nothing.
    """

    def begin(self) -> None:
        """Let the kernel wait instead of the interpreter, which would ask it about every piece of 200 kB."""
        chunks.make_room(self._socket)
        limit = struct.pack("@ll", int(self._socket.gettimeout() or 0), 0)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def send(self, block: bytes | memoryview) -> None:
        """Send a piece as it lies in memory."""
        chunks.send(self._socket, block)


class _Answer(io.RawIOBase):
    """An answer of which something was read, from its beginning.

    Args:
        said: what was read.
        rest: where it goes on.
    """

    def __init__(self, said: bytes, rest: io.BufferedReader) -> None:
        self._said = said
        self._rest = rest

    def response(self, _: socket.socket, **words: Any) -> HTTPResponse:
        """Make what the library reads the answer with."""
        return HTTPResponse(self, **words)  # type: ignore[arg-type]  # it asks for nothing but a file

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Give what the library reads from."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read the next bytes."""
        if not self._said:
            return self._rest.readinto1(buffer)
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._said))
        view[:count], self._said = self._said[:count], self._said[count:]
        return count

    def close(self) -> None:
        """Let go of the socket."""
        self._rest.close()
        super().close()
