"""Bodies in chunks (HTTP/1.1, RFC 9112 section 7.1) on a blocking socket: sent without a copy, read into one buffer.

What the servers' libraries do through an event loop costs several copies of everything, and the interpreter's time at
each of some ten thousand calls; with streams of gibibytes that is half of the work.
"""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

END: Final = b"0\r\n\r\n"
_MOST_LINE_BYTES: Final = 16
_LENGTH: Final = re.compile(rb"[0-9A-Fa-f]{1,8}\r\n")
_SO_SNDBUFFORCE: Final = 32
"""Linux: without the system's bound, for those who administer the network. The library has no name for it."""
_ROOM_BYTES: Final = 4 << 20


class NotInChunksError(Exception):
    """The other side sent something else; what it says is for the caller to tell."""


def make_room(line: socket.socket) -> None:
    """Let some blocks be under way, so that both sides work at once; the system may grant less."""
    try:
        line.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ROOM_BYTES)
    except PermissionError:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM_BYTES)


class Line(Protocol):
    """What takes buffers, such as a socket."""

    def sendmsg(self, buffers: Iterable[bytes | memoryview], /) -> int:
        """Send some of them; give how many bytes."""


def send(line: Line, data: bytes | memoryview) -> None:
    """Send one chunk, which is not empty, as it lies in memory.

    Raises:
        OSError: the line broke, or took nothing for as long as it may.
    """
    rest = [memoryview(b"%x\r\n" % len(data)), memoryview(data), memoryview(b"\r\n")]
    while rest:
        sent = line.sendmsg(rest)
        while rest and sent >= len(rest[0]):
            sent -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][sent:]


def read(file: io.BufferedIOBase, room: bytearray) -> Iterator[memoryview]:
    """Give a body in pieces, which all lie in the same memory: use each before the next.

    A piece ends where a chunk does, or where the memory does.

    Args:
        file: where the body begins.
        room: for one piece.

    Raises:
        ConnectionError: the other side went away before its end.
        NotInChunksError: it is not in chunks.
    """
    memory = memoryview(room)
    while length := _length(file.readline(_MOST_LINE_BYTES)):
        while length:
            piece = memory[:length]
            if file.readinto(piece) != len(piece):
                raise ConnectionResetError("the other side closed the connection")
            length -= len(piece)
            yield piece
        _end_line(file.readline(_MOST_LINE_BYTES))
    _end_line(file.readline(_MOST_LINE_BYTES))


def _length(line: bytes) -> int:
    """Read the line before a chunk: its length, hexadecimal."""
    _check_line(line)
    if _LENGTH.fullmatch(line) is None:
        raise NotInChunksError("a body that is not in chunks")
    return int(line[:-2], 16)


def _end_line(line: bytes) -> None:
    _check_line(line)
    if line != b"\r\n":
        raise NotInChunksError("a chunk of another length than it said")


def _check_line(line: bytes) -> None:
    if not line.endswith(b"\n") and len(line) < _MOST_LINE_BYTES:
        raise ConnectionResetError("the other side closed the connection")
