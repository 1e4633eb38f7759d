"""Answers of any length, made in a job's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aiohttp import web

from strongroom.core.errors import StrongroomError
from strongroom.services.media.errors import ClientGoneError
from strongroom.services.media.jobs import JobThread

CONTENT_TYPE = "application/octet-stream"


async def stream_out(request: web.Request, pieces: Iterator[bytes], thread: JobThread) -> web.StreamResponse:
    """Answer with pieces as they are made; the next one is made while one is sent.

    What fails before the first piece is told as any error. What fails later can only break the answer off, so that
    the caller never takes a part for the whole.

    Raises:
        StrongroomError: the pieces could not be made; after the first, the connection is closed too.
        ClientGoneError: the caller closed the connection.
    """
    upcoming = thread.start(lambda: next(pieces, None))
    piece = await upcoming
    response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
    try:
        await response.prepare(request)
        while piece is not None:
            upcoming = thread.start(lambda: next(pieces, None))
            await response.write(piece)
            piece = await upcoming
        await response.write_eof()
    except OSError as error:
        await asyncio.wait([upcoming])
        raise ClientGoneError("the caller closed the connection") from error
    except StrongroomError:
        if request.transport is not None:
            request.transport.abort()
        raise
    return response
