"""The bodies of requests: whole and bounded before anything looks at them."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strongroom.api.errors import BodyTooLongError, BodyTooSlowError
from strongroom.api.problems import response_of
from strongroom.core.errors import StrongroomError

MAX_BODY_BYTES: Final = 1 << 20
BODY_SECONDS: Final = 30.0


class BodyLimit:
    """Reads a body up to a bound, and gives it to the application in one piece.

    Args:
        app: the application within.
        max_bytes: a longer body is refused; one that is announced so, before it is read.
        seconds: for all of it, so that many who send slowly do not hold all connections.
    """

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES, seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._read(scope, receive)
        except StrongroomError as error:
            await response_of(error, {"Connection": "close"})(scope, receive, send)
            return
        except TimeoutError:
            slow = BodyTooSlowError(f"the body did not arrive within {self._seconds:.0f} seconds")
            await response_of(slow, {"Connection": "close"})(scope, receive, send)
            return
        if body is None:
            return  # whoever asked is gone
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced[:20]) > self._max_bytes:
            raise self._too_long()
        parts = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            parts += message.get("body", b"")
            if len(parts) > self._max_bytes:
                raise self._too_long()
            if not message.get("more_body", False):
                return bytes(parts)

    def _too_long(self) -> BodyTooLongError:
        return BodyTooLongError(f"the body of a request has at most {self._max_bytes} bytes")
