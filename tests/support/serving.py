"""Routes that are served over a socket of this host and over TLS."""

from __future__ import annotations

import asyncio
import errno
import http.client
import os
import socket
import ssl
import threading
from pathlib import Path

from aiohttp import web

from strongroom.cli.api_client import UnixConnection
from strongroom.pki.tls import ServerTLS, client_context
from strongroom.services.record_http import tell_errors
from strongroom.settings.system import SystemClock
from tests.support.domains import CA


class Serving:
    """A server as the media server is one, in a thread of its own.

    Args:
        path: of a socket; beside it, TLS listens on a port.
        routes: what it serves.
    """

    def __init__(self, path: Path, routes: list[web.RouteDef]) -> None:
        self.path = path
        now = SystemClock().now()
        ca = CA.make(1, now)
        tls = ServerTLS(ca.leaf(now)[1], [ca.root.certificate])
        self.context = client_context([ca.root.certificate], ca.leaf(now, listens=False)[1])
        self._loop = asyncio.new_event_loop()
        application = web.Application(middlewares=[tell_errors], client_max_size=1 << 30)
        application.add_routes(routes)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        self._loop.run_until_complete(self._begin(tls.context))
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def _begin(self, context: ssl.SSLContext) -> None:
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port: int = self._runner.addresses[1][1]

    def connect(self, *, is_local: bool) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if is_local:
            connection = UnixConnection(self.path, 10)
        else:
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=10, context=self.context)
        connection.connect()
        return connection

    def stop(self) -> None:
        """Stop serving, as often as wished."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def no_descriptor(_: socket.socket) -> socket.socket:
    """In place of ``socket.dup``, when the process may open no more files."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
