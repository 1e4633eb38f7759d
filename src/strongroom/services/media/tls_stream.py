"""What comes and goes over TLS, decrypted and encrypted by the thread that uses it.

OpenSSL may be used by one thread at a time. So the event loop reads nothing of the connection meanwhile, and writes
nothing; :mod:`strongroom.services.media.taken_line` sees to that.
"""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from strongroom.pki.tls import OpenConnection

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CIPHERTEXT_BYTES: Final = 256 << 10


class TLSStream(io.RawIOBase):
    """Gives what the other side sent, as a file does; sends as a socket does.

    Args:
        connection: TLS, whose handshake is over.
        line: below it, blocking; closed by whoever gave it.
    """

    def __init__(self, connection: OpenConnection, line: socket.socket) -> None:
        self._connection = connection
        self._line = line
        self._ciphertext = memoryview(bytearray(_CIPHERTEXT_BYTES))

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer as far as what has come reaches; wait only if that is nothing.

        Raises:
            ConnectionError: the line broke without the end that TLS has.
            ssl.SSLError: what came is not what the other side sent.
        """
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            try:
                # A record at the most, which is 16 KiB.
                count = self._connection.read(len(view) - filled, view[filled:])
            except ssl.SSLWantReadError:
                if filled:
                    break
                self._fetch()
                continue
            except ssl.SSLZeroReturnError:
                break
            if not count:
                break
            filled += int(count)
        return filled

    def sendmsg(self, buffers: Iterable[bytes | memoryview]) -> int:
        """Send buffers one behind the other, all of them; give how many bytes they are.

        Raises:
            OSError: the line broke.
        """
        count = 0
        for buffer in buffers:
            rest = memoryview(buffer)
            while rest:
                done = self._connection.write(rest)
                rest = rest[done:]
                count += done
        self._line.sendall(self._connection.outgoing.read())
        return count

    def _fetch(self) -> None:
        """Have ciphertext come, after what TLS itself wants to say."""
        if self._connection.outgoing.pending:
            self._line.sendall(self._connection.outgoing.read())
        count = self._line.recv_into(self._ciphertext)
        if not count:
            raise ConnectionResetError("the client closed the connection")
        self._connection.incoming.write(self._ciphertext[:count])
