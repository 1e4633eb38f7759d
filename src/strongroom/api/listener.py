"""The people's listener: uvicorn with a TLS context that is handed in, and bounds on what a stranger may use."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from strongroom.api.errors import CannotListenError
from strongroom.pki.tls import Credential, ServerTLS

MAX_CONNECTIONS: Final = 256
MAX_HEAD_BYTES: Final = 32_768
IDLE_SECONDS: Final = 30
STOP_SECONDS: Final = 10


class PeopleServer(uvicorn.Server):
    """A server that leaves signals to its process, which has more to close than this listener."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and tell who waits for it.

        Raises:
            CannotListenError: the address is in use, or is none of this host.
        """
        try:
            await super().startup(sockets)
        except SystemExit as error:  # it would end the process, and nothing else in it could be closed
            raise CannotListenError(f"'{self.config.host}:{self.config.port}' cannot be listened at") from error
        self._listens.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    async def listening(self, serving: asyncio.Future[None]) -> None:
        """Wait until it listens.

        Raises:
            CannotListenError: it could not.
        """
        waiting = asyncio.ensure_future(self._listens.wait())
        both: set[asyncio.Future[Any]] = {waiting, serving}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done():
            serving.result()


def people_tls(credential: Credential) -> ServerTLS:
    """Make the TLS side of the listener: version 1.3, no client certificates.

    Args:
        credential: the primary's; :meth:`~strongroom.pki.tls.ServerTLS.replace` exchanges it while the listener runs.
    """
    tls = ServerTLS(credential, ())
    # What a connection asks of its client is fixed before the certificate is chosen, so this outlives a replacement.
    tls.context.verify_mode = ssl.CERT_NONE
    return tls


def people_server(app: FastAPI, host: str, port: int, tls: ServerTLS) -> PeopleServer:
    """Make the server; ``run()`` or ``serve()`` starts it, ``should_exit`` ends it.

    Args:
        app: from :func:`strongroom.api.app.create_app`.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        tls: from :func:`people_tls`.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="h11",
        ws="none",
        lifespan="off",
        ssl_context_factory=lambda _config, _default: tls.context,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the address in the evidence is the one that the kernel tells
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    return PeopleServer(config)
