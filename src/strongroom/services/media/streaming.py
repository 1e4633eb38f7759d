"""Answers of any length, made in a job's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain

from aiohttp import web

from strongroom.core.errors import StrongroomError
from strongroom.services.media.errors import ClientGoneError
from strongroom.services.media.jobs import JobThread
from strongroom.services.media.socket_answer import SocketAnswer

CONTENT_TYPE = "application/octet-stream"


async def stream_out(request: web.Request, pieces: Iterator[bytes], thread: JobThread) -> web.StreamResponse:
    """Answer with pieces as they are made; the next one is made while the system still holds the ones before.

    What fails before the first piece is told as any error. What fails later can only break the answer off, so that
    the caller never takes a part for the whole.

    Raises:
        StrongroomError: the pieces could not be made; after the first, the connection is closed too.
        ClientGoneError: the caller closed the connection.
    """
    first = await thread.start(lambda: next(pieces, b""))
    response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
    try:
        await response.prepare(request)
        if SocketAnswer.is_possible(request):
            await _by_thread(request, chain([first], pieces), thread)
        else:
            await _by_loop(response, first, pieces, thread)
        await response.write_eof()
    except OSError as error:
        raise ClientGoneError("the caller closed the connection") from error
    except StrongroomError:
        if request.transport is not None:
            request.transport.abort()
        raise
    return response


async def _by_thread(request: web.Request, pieces: Iterator[bytes], thread: JobThread) -> None:
    """Let the thread write to the socket what it makes."""
    with SocketAnswer(request) as answer:
        try:
            await thread.start(lambda: answer.send(pieces))
        except asyncio.CancelledError:
            answer.interrupt()
            raise


async def _by_loop(
    response: web.StreamResponse, piece: bytes | None, pieces: Iterator[bytes], thread: JobThread
) -> None:
    """Send what the thread makes."""
    while piece is not None:
        upcoming = thread.start(lambda: next(pieces, None))
        try:
            await response.write(piece)
        except OSError:
            await asyncio.wait([upcoming])
            raise
        piece = await upcoming
