"""Where clients come from: over the socket of this host, or from another one with a certificate of this domain.

What they send and get is the same; the routes take it from both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from strongroom.core.ids import HostId


@dataclass(frozen=True)
class Caller:
    """A client that brings a grant.

    Attributes:
        host: its id, from its certificate; ``None`` on this host's own socket.
        certificate: what it showed, DER; ``None`` there too.
        check: raises RevokedError, CRLMissingError or CRLExpiredError when it may no longer be served.
    """

    host: HostId | None
    certificate: bytes | None
    check: Callable[[], None]


Door = Callable[[web.Request], Caller]
"""Tells who calls, or refuses."""


@dataclass(frozen=True)
class HelloRoute:
    """``GET /v1/hello``: a client hears whether it is taken, before it sends anything that matters.

    Args:
        door: tells who calls.
    """

    door: Door

    def table(self) -> list[web.RouteDef]:
        """Give the route."""
        return [web.get("/v1/hello", self._hello, allow_head=False)]

    async def _hello(self, request: web.Request) -> web.Response:
        self.door(request)
        return web.Response(status=204)


def of_this_host(_request: web.Request) -> Caller:
    """Take a client of the own socket: who may open it, the file system has said."""
    return Caller(None, None, lambda: None)
