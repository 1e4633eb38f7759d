"""The connection of a request, while a thread uses it and the event loop leaves it alone.

A gibibyte that goes through the event loop is copied four times, and takes turns with the job's thread for the
interpreter at every one of some ten thousand calls. Over TLS too: what lies above the socket is asyncio's, which
neither reads nor writes meanwhile, and used by the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from aiohttp import web

from strongroom.pki.tls import OpenConnection
from strongroom.services.media.errors import NoDescriptorError
from strongroom.services.media.tls_stream import TLSStream


class TakenLine:
    """Takes a connection; the socket waits as long as it must.

    Args:
        transport: of a request for which :meth:`is_possible`.

    Attributes:
        socket: a descriptor of its own.
        tls: what lies above it; ``None`` for a client of this host.

    Raises:
        NoDescriptorError: the system has no descriptor left; nothing was taken.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        try:
            self.socket: socket.socket = transport.get_extra_info("socket").dup()
        except OSError as error:
            raise NoDescriptorError(f"the media server has too many files open: {error.strerror}") from error
        transport.pause_reading()
        connection = transport.get_extra_info("ssl_object")
        if connection is not None:
            _limit(transport, 0)  # what is below TLS is paused too, at once
        self.socket.settimeout(None)
        self.tls = None if connection is None else TLSStream(connection, self.socket)

    @staticmethod
    def is_possible(request: web.Request) -> bool:
        """Tell whether a thread can use a request's connection."""
        transport = request.transport
        return transport is not None and isinstance(transport.get_extra_info("ssl_object"), OpenConnection | None)

    @property
    def is_local(self) -> bool:
        """Tell whether the other side is a client of this host."""
        return self.socket.family == socket.AF_UNIX

    def give_back(self) -> None:
        """Let the loop use the connection again."""
        self.let_go()
        if not self._transport.is_closing():
            if self.tls is not None:
                _limit(self._transport, None)
            self._transport.resume_reading()

    def let_go(self) -> None:
        """Use the socket no more; the loop does not read it."""
        self.socket.setblocking(False)  # both descriptors have one mode
        self.socket.close()

    def interrupt(self) -> None:
        """Let the thread find the end of the connection, which nobody uses any more."""
        with contextlib.suppress(OSError):  # the client was faster
            self.socket.shutdown(socket.SHUT_RDWR)
        self._transport.abort()  # no word of farewell: TLS may be in use by the thread


def _limit(transport: asyncio.Transport, most_bytes: int | None) -> None:
    """Say how much may come over TLS before it is read; with 0, reading stops at once."""
    transport.set_read_buffer_limits(most_bytes)  # type: ignore[attr-defined]  # of transports over TLS
