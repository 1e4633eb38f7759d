"""The people's listener: uvicorn with a TLS context that is handed in, and bounds on what a stranger may use."""

from __future__ import annotations

import ssl
from typing import Final

import uvicorn
from fastapi import FastAPI

from strongroom.pki.tls import Credential, ServerTLS

MAX_CONNECTIONS: Final = 256
MAX_HEAD_BYTES: Final = 32_768
IDLE_SECONDS: Final = 30
STOP_SECONDS: Final = 10


def people_tls(credential: Credential) -> ServerTLS:
    """Make the TLS side of the listener: version 1.3, no client certificates.

    Args:
        credential: the primary's; :meth:`~strongroom.pki.tls.ServerTLS.replace` exchanges it while the listener runs.
    """
    tls = ServerTLS(credential, ())
    # What a connection asks of its client is fixed before the certificate is chosen, so this outlives a replacement.
    tls.context.verify_mode = ssl.CERT_NONE
    return tls


def people_server(app: FastAPI, host: str, port: int, tls: ServerTLS) -> uvicorn.Server:
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
    return uvicorn.Server(config)
